"""`thinwire-client simulate`: whole runs in this process, without a coordinator and without a network."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import replace
from typing import Any, TextIO

import torch
from pydantic import BaseModel, ValidationError
from torch.utils.data import Dataset, Subset

from thinwire.codecs import CodecError
from thinwire.machine.files import write_atomic
from thinwire.machine.link_rates import parse_link
from thinwire.methods.client_half import client_half
from thinwire.methods.definition import define
from thinwire.methods.model_file import model_bytes
from thinwire.methods.simulation import Exchanged, Participant, simulate
from thinwire.methods.values import TaskRefusedError
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.trials import TRIAL_ID, TrialExchange, TrialPlace, TrialRequest, TrialResult

from .data import ClientInfo, Data
from .forked_clients import ForkedClients
from .join import learning_problem
from .learner import Learner, NarrowChainError
from .problems.problem_file import LearningProblem
from .rehearsal import rehearse
from .settings import SimulateSettings


def serve_trials(options: SimulateSettings, requests: TextIO, replies: TextIO) -> None:
    """Says what the task is, then answers each line of `requests`: with one of its result, before which come those of
    its exchanges where it asks for them. Raises: `ProblemFileError`, `UsageError`, `ValueError` (a line that is no
    request).
    """
    torch.set_num_threads(options.threads)
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_deterministic_debug_mode("warn")
    trials = Trials(options)
    print(trials.place().model_dump_json(), file=replies, flush=True)
    for line in requests:
        try:
            request = TrialRequest.model_validate_json(line)
        except ValidationError as error:
            raise ValueError(f"not a request: {error}") from None

        def tell(value: BaseModel) -> None:
            print(value.model_dump_json(), file=replies, flush=True)

        tell(trials.play(request, tell if request.follow else None))


class Trials:
    """Runs of one task by the same clients, each from the clients' first model. `problem`: instead of that which the
    options name. Raises: `ProblemFileError`.
    """

    def __init__(self, options: SimulateSettings, problem: LearningProblem | None = None) -> None:
        self._options = options
        self._problem = learning_problem(options, *options.sizes) if problem is None else problem
        self._learners: dict[float, dict[str, Learner]] = {}
        first = next(iter(self._of_share(1.0).values()))
        rehearse(first, self._problem.file)
        self._first = first.first_arrays()

    def place(self) -> TrialPlace:
        learners = self._of_share(1.0).values()
        rates = None if self._options.link is None else parse_link(self._options.link)
        return TrialPlace(
            clients=len(learners),
            examples=sum(len(learner.train) for learner in learners),
            parameters=sum(array.size for array in self._first.values()),
            link=None if rates is None else (rates.up_bps, rates.down_bps, rates.rtt_s),
        )

    def play(self, request: TrialRequest, tell: Callable[[TrialExchange], None] | None = None) -> TrialResult:
        """The run, whatever comes of it. `tell`: hears of each exchange."""
        began = time.monotonic()
        try:
            found = self._played(request, self._of_share(request.share), tell)
        except (ProblemError, TaskRefusedError) as error:
            found = TrialResult(outcome="refused", reason=str(error))
        except CodecError as error:
            diverges, words = error.reason == "out-of-range", str(error)
            if diverges and not isinstance(error, NarrowChainError):
                words += ". Training diverges on these data: lower the run's lr"
            found = TrialResult(outcome="diverged" if diverges else "refused", reason=words)
        return found.model_copy(update={"seconds": round(time.monotonic() - began, 3)})

    def _played(
        self, request: TrialRequest, learners: Mapping[str, Learner], tell: Callable[[TrialExchange], None] | None
    ) -> TrialResult:
        run = request.run
        half = client_half(run.method)(define(TRIAL_ID, run).settings)
        participants = {name: Participant(half, learner, own_first=True) for name, learner in learners.items()}
        told: list[TrialExchange] = []
        before: set[str] = set()

        def step(one: Exchanged) -> None:
            told.append(exchange_told(one, before))
            before.update(one.contributors)
            if tell is not None:
                tell(told[-1])

        processes = min(self._options.processes, len(participants))
        if processes > 1:
            with ForkedClients(run, participants, processes) as crew:
                done = simulate(run, self._first, participants, step=step, crew=crew)
        else:
            done = simulate(run, self._first, participants, step=step)
        if request.model is not None and done.model is not None:
            write_atomic(request.model, model_bytes(done.model), fsync=False, mode=0o644)
        return TrialResult(outcome="completed", exchanges=told)

    def _of_share(self, share: float) -> dict[str, Learner]:
        """The clients' learners, by name."""
        if share not in self._learners:
            options, problem = self._options, _shared(self._problem, share)
            infos = [
                ClientInfo(f"client-{index:02d}", index, options.clients, options.seed, options.split)
                for index in range(options.clients)
            ]
            found: dict[str, Learner] = {}
            for info in infos:
                like = next(iter(found.values()), None)
                found[info.name] = Learner(problem, info, device=options.device, allow=options.allow, like=like)
            self._learners[share] = found
        return self._learners[share]


def exchange_told(one: Exchanged, before: Set[str]) -> TrialExchange:
    """`before`: who took part in the exchanges before it."""
    names = {name for metrics in one.metrics.values() for name in metrics} - {"examples", "seconds"}
    examples = any("examples" in metrics for metrics in one.metrics.values())
    means = {name: one.mean(name) for name in sorted(names)} if examples else {}
    return TrialExchange(
        round=one.round, step=one.step, kind=one.kind, clients=len(one.contributors), uplink_bytes=one.uplink_bytes,
        downlink_bytes=one.downlink_bytes, fetched=one.fetched, uploaded=one.uploaded, beside_bytes=one.beside_bytes,
        newcomers=len(set(one.contributors) - before), plans=one.plans, plan_bytes=one.plan_bytes,
        metrics={name: value for name, value in means.items() if value == value},
    )  # fmt: skip


def _shared(problem: LearningProblem, share: float) -> LearningProblem:
    """The same problem with so much of each client's training examples, evenly spaced."""

    def data(client: ClientInfo) -> Data:
        found = problem.data(client)
        return found if share == 1 else replace(found, train=_part(found.train, share))

    return replace(problem, data=data)


def _part(train: Any, share: float) -> Any:
    if isinstance(train, tuple):
        return tuple(_part(one, share) for one in train)
    if isinstance(train, dict):
        return {name: _part(one, share) for name, one in train.items()}
    if isinstance(train, torch.Tensor):
        return train[list(_rows(len(train), share))]
    if isinstance(train, Dataset) and hasattr(train, "__len__"):
        return Subset(train, list(_rows(len(train), share)))
    return train


def _rows(count: int, share: float) -> Iterable[int]:
    wanted = max(1, round(count * share))
    return (index * count // wanted for index in range(wanted))
