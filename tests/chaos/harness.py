"""Kills processes of a run at random instants and starts them again, until it ends; then compares it with its replay.

The replay is `thinwire.methods.simulation` with the contributor sets of the run: a run that nothing disturbed, in one
process. What is compared: the model, each client's memory on its disk, and every verdict that a client received.
"""

from __future__ import annotations

import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from thinwire.edge_client.data import ClientInfo
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.memory.runs import RunMemory
from thinwire.edge_client.model import first_model
from thinwire.edge_client.problems.problem_file import load_problem_file
from thinwire.methods.arrays import same_bits
from thinwire.methods.client_half import client_half
from thinwire.methods.model_file import model_bytes, read_model
from thinwire.methods.registry import find_method
from thinwire.methods.simulation import Participant, Simulated, simulate
from thinwire.operator.lab import Lab
from thinwire.operator.processes import Child
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

from .processes import Members, Way

Victims = Literal["coordinator", "client", "both"]
TASK = Path(__file__).with_name("task.py")
CLIENTS = 3
PATIENCE_S = 180.0
"""Without one further exchange, after which a run counts as hung."""
MIX: dict[Victims, int] = {"coordinator": 2, "client": 2, "both": 1}
AT_WORK = 0.85
"""Of the kills wait until every process is up; the others come whenever they come."""
METHODS: dict[str, dict[str, Any]] = {
    # Raw answers of 75 kB: uploads and downloads in pieces. Three are asked and two count: there are late ones.
    "fedavg": {"uplink": "", "cohort": 2, "over-select": 1.5, "settings": {"server-optimizer": "momentum"}},
    "feddkd": {"cohort": 2, "settings": {"distil-steps": 2}},
    "progfed": {"cohort": 3, "settings": {"warm-up": 1}},
    "sparse_masks": {"cohort": 2, "over-select": 1.5},
    "feddlr": {"cohort": 2, "settings": {"energy-up": 0.8}},
    "seed_scalars": {"cohort": 2, "over-select": 1.5, "settings": {"steps": 2, "perturbations": 4}},
    # All are asked: what a client has trained stays in its memory, counted or not, and the replay knows contributors.
    "fd_alu": {"cohort": 3, "settings": {"local-rounds-per-exchange": 2, "batch-size": 4}},
}


class HungError(Exception):
    """A run that does not end, or a process that failed by itself."""


@dataclass(slots=True)
class Verdict:
    """What has become of a run that has ended.

    `acknowledged`: answers whose clients were told that they count, of which `acknowledged_lost` do not.
    `counted_untold`: answers that count and whose clients never learned it, or learned otherwise. `memories_wrong`: of
    these clients.
    """

    run: str
    exchanges: int
    answers: int
    acknowledged: int
    model_identical: bool
    counted_twice: int
    acknowledged_lost: int
    counted_untold: int
    memories_wrong: list[str]

    @property
    def clean(self) -> bool:
        wrong = self.counted_twice, self.acknowledged_lost, self.counted_untold, len(self.memories_wrong)
        return self.model_identical and not any(wrong)


@dataclass
class Chaos:
    """A coordinator and its clients in one folder. `close` ends them."""

    folder: Path
    method: str
    seed: int = 0
    way: Way = "fork"
    clients: int = CLIENTS
    span_s: float = 0.5
    say: Callable[[str], None] = print
    kills: Counter[Victims] = field(default_factory=Counter)
    starts: int = 0
    verdicts: list[Verdict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._random = random.Random(f"{self.seed}/{self.method}")
        self._lab = Lab(self.folder, children=Members(self.folder, self.way))
        self._running: dict[str, Child] = {}
        self._invites: dict[str, Path] = {}
        self._told_at: dict[str, int] = {}
        self._port = 0
        self._task = load_problem_file(TASK)
        self._names = [f"client-{index:02d}" for index in range(self.clients)]
        self._model = self.folder / "first.safetensors"
        self._model.write_bytes(model_bytes(first_model(self._task, self.seed)))

    def __enter__(self) -> Chaos:
        self._lab.__enter__()
        self._start("coordinator")
        self._wait_for_all()
        self._port = self._lab.port
        self._invites = {name: self._lab.write_invite(name) for name in self._names}
        return self

    def __exit__(self, *error: object) -> None:
        self._lab.__exit__(*error)

    # -- processes --------------------------------------------------------------------------------------------

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _start(self, name: str) -> None:
        self._log(name).touch()
        self._told_at[name] = self._log(name).stat().st_size
        if name == "coordinator":
            self._lab.start_coordinator(self._port)
            self._running[name] = self._lab.coordinator
        else:
            share = f"{self._names.index(name)}/{self.clients}"
            options = ("--task", str(TASK), "--share", share, "--seed", str(self.seed))
            url = f"http://127.0.0.1:{self._port}"
            self._running[name] = self._lab.join(name, self._invites[name], options, url=url)
        self.starts += 1

    def _is_up(self, name: str) -> bool:
        if name == "coordinator":
            return self._lab.listens
        return b"joined" in self._log(name).read_bytes()[self._told_at[name] :]

    def _wait_for_all(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while not all(
            self._is_up(name) or running.process.poll() is not None for name, running in self._running.items()
        ):
            if time.monotonic() > until:
                raise HungError(f"not up: {[name for name in self._running if not self._is_up(name)]}{self._tails()}")
            self._check()
            time.sleep(0.02)

    def _check(self) -> None:
        """Nothing ends by itself but a client whose run is over."""
        for name, running in self._running.items():
            code = running.process.poll()
            if code is not None and (code != 0 or name == "coordinator"):
                raise HungError(f"{name} ended with exit code {code}{self._tails()}")

    def _tails(self) -> str:
        tails = []
        for path in sorted(self.folder.glob("*.log")):
            tails.append(f"\n{path.name}:\n" + "\n".join(path.read_text(errors="replace").splitlines()[-12:]))
        return "".join(tails)

    def _kill(self, victims: Victims) -> None:
        names = [] if victims == "client" else ["coordinator"]
        if victims != "coordinator":
            names.append(self._random.choice(self._names))
        for name in names:
            self._running[name].process.kill()
        for name in names:
            self._running[name].process.wait(30)
            self._lab.children.forget(self._running[name])
        # Also in another order than they died in.
        for name in self._random.sample(names, len(names)):
            self._start(name)
        self.kills[victims] += 1

    # -- runs -------------------------------------------------------------------------------------------------

    def run(self, rounds: int, kills: int) -> Verdict:
        """One run, disturbed by at most so many kills while it lasts. Raises: `HungError`."""
        number = len(self.verdicts)
        settings = RunSettings.model_validate(
            {"name": f"run-{number}", "method": self.method, "rounds": rounds, "seed": self.seed + number}
            | METHODS[self.method]
        )
        view = self._lab.start_run(self._model, settings)
        for name in self._names:
            self._start(name)
        before = sum(self.kills.values())
        while sum(self.kills.values()) < before + kills and not self._over():
            if self._random.random() < AT_WORK:
                self._wait_for_all()
            time.sleep(self._random.uniform(0, self.span_s))
            self._check()
            if self._over():
                break
            (victims,) = self._random.choices(list(MIX), list(MIX.values()))
            self._kill(victims)
        self._await_end(view.id)
        verdict = self._compare(view.id, settings)
        self.verdicts.append(verdict)
        return verdict

    def _over(self) -> bool:
        return all(self._running[name].process.poll() == 0 for name in self._names)

    def _await_end(self, run: str) -> None:
        self._wait_for_all()
        seen, since = -1, time.monotonic()
        while not self._over():
            self._check()
            view = self._lab.view(run)
            if view.exchange != seen:
                seen, since = view.exchange, time.monotonic()
            if time.monotonic() - since > PATIENCE_S:
                raise HungError(f"{view}{self._tails()}")
            time.sleep(0.1)

    # -- what has become of it --------------------------------------------------------------------------------

    def _compare(self, run: str, settings: RunSettings) -> Verdict:
        view = self._lab.view(run)
        if view.outcome != "completed":
            raise HungError(f"the run ended as {view.outcome}: {view.reason}{self._tails()}")
        told = [one.answers for one in self._lab.metrics(run).exchanges]
        accepted = self._accepted(run)
        sets = [sorted(client for exchange, client, _ in accepted.values() if exchange == e) for e in range(len(told))]
        twice = sum(len(names) - len(set(names)) for names in sets)
        twice += sum(max(0, count - len(set(names))) for count, names in zip(told, sets, strict=True))
        acknowledged = self._acknowledged(run)
        lost = sum(task not in accepted or accepted[task][2] != sent for task, sent in acknowledged.items())
        untold = len(accepted.keys() - acknowledged.keys())
        replayed, participants = self._replay(settings, sets)
        wrong = [
            name
            for name in self._names
            if not same_bits(RunMemory(self.folder / name / "runs" / run).memory(), participants[name].memory)
        ]
        identical = self._same_model(run, replayed)
        return Verdict(run, len(told), len(accepted), len(acknowledged), identical, twice, lost, untold, wrong)

    def _accepted(self, run: str) -> dict[str, tuple[int, str, str]]:
        """Task -> exchange, client, SHA-256 of the payload, of every answer that counted."""
        query = (
            "SELECT tasks.id, exchange, client, hex(digest) FROM tasks JOIN answers ON answers.task = tasks.id "
            "WHERE run = ? AND state = 'accepted'"
        )
        with closing(sqlite3.connect(self.folder / "coordinator" / "thinwire.db")) as database:
            return {row[0]: (row[1], row[2], row[3].lower()) for row in database.execute(query, [run])}

    def _acknowledged(self, run: str) -> dict[str, str]:
        """Task -> SHA-256 of the payload, of every answer whose client was told that it counts."""
        found = {}
        for path in self.folder.glob("*.verdicts"):
            for line in path.read_text().splitlines():
                of, task, choice, *sent = line.split()
                if of == run and choice == "accepted":
                    found[task] = "".join(sent)
        return found

    def _replay(self, settings: RunSettings, sets: list[list[str]]) -> tuple[Simulated, dict[str, Participant]]:
        torch.set_num_threads(1)
        half = client_half(self.method)(find_method(self.method).settings.model_validate(settings.settings))
        infos = [ClientInfo(name, index, self.clients, self.seed) for index, name in enumerate(self._names)]
        participants = {info.name: Participant(half, Learner(self._task, info)) for info in infos}
        return simulate(settings, read_model(self._model), participants, contributors=sets), participants

    def _same_model(self, run: str, replayed: Simulated) -> bool:
        path = self.folder / f"{run}.safetensors"
        try:
            self._lab.operator.fetch_file(f"/v1/runs/{run}/model", path)
        except ProblemError as error:
            if error.reason != "no-global-model":
                raise
            return replayed.model is None
        return replayed.model is not None and same_bits(read_model(path), replayed.model)
