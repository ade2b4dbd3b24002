"""Small fleets of real learners on the digits, and whole runs of them in one process."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from thinwire.codecs import Arrays, Spec
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.architectures import mlp
from thinwire.edge_client.problems.built_in import ProblemOptions, find_problem
from thinwire.edge_client.problems.problem_file import LearningProblem
from thinwire.methods.client_half import ClientHalf, client_half
from thinwire.methods.method import Method
from thinwire.methods.registry import find_method
from thinwire.methods.settings import LocalTraining
from thinwire.methods.simulation import Counted, Participant, Simulated, simulate
from thinwire.methods.training import Trained, train_locally
from thinwire.methods.values import Task
from thinwire.protocol.settings import RunSettings


def learners(
    count: int = 3,
    *,
    examples: int = 150,
    split: str = "iid",
    architecture: str | None = None,
    hidden: Sequence[int] | None = None,
    seed: int = 0,
    allow: Collection[str] = (),
) -> dict[str, Learner]:
    """`client-00`, ... with their shares of the first `examples` digits. `hidden`: of an MLP instead of the
    architecture, where a test needs a model that costs nothing.
    """
    task = find_problem("digits", ProblemOptions(architecture=architecture, train=examples, test=60))
    if hidden is not None:
        task = replace(task, model=lambda: mlp((1, 8, 8), 10, hidden))
    clients = [ClientInfo(f"client-{index:02d}", index, count, seed, split) for index in range(count)]
    return {client.name: Learner(task, client, allow=allow) for client in clients}


def learners_of(
    model: Callable[[], nn.Module],
    data: Callable[[torch.Generator], Data],
    count: int = 2,
    *,
    loss: Any = None,
) -> dict[str, Learner]:
    """`client-00`, ... of a model of one's own; each draws its data from its own generator."""
    task = LearningProblem(
        model, lambda client: data(torch.Generator().manual_seed(client.index)), loss or nn.CrossEntropyLoss()
    )
    clients = [ClientInfo(f"client-{index:02d}", index, count) for index in range(count)]
    return {client.name: Learner(task, client) for client in clients}


def table(generator: torch.Generator, examples: int = 40, held_out: int = 12, *, columns: int = 6) -> Data:
    """Numbers in rows; the class of a row is its largest of the first three."""
    inputs = torch.randn(examples + held_out, columns, generator=generator)
    targets = inputs[:, :3].argmax(1)
    return Data((inputs[:examples], targets[:examples]), (inputs[examples:], targets[examples:]))


def train(learner: Learner, lr: float, model: nn.Module | None = None, **settings: Any) -> Trained:
    """Local training at this rate, as the settings say."""
    chosen, task = LocalTraining.model_validate({**settings, "lr": lr}), Task(learner.round, 0, "train", {}, Spec())
    return train_locally(learner, chosen, task, model=model, measured=learner.evaluate(model))


def client_of(method_id: str, settings: Mapping[str, Any] | None = None) -> ClientHalf[Any]:
    """The configured client half."""
    method: Method = find_method(method_id)
    return client_half(method_id)(method.settings.model_validate(dict(settings or {})))


def first_model(fleet: Mapping[str, Learner]) -> Arrays:
    """The arrays all learners of a fleet begin with."""
    learner = next(iter(fleet.values()))
    learner.prepare(0)
    return learner.arrays()


def run_settings(method_id: str, settings: Mapping[str, Any] | None = None, **run: Any) -> RunSettings:
    """Two rounds of three clients unless `run` says otherwise."""
    chosen = {"rounds": 2, "cohort": 3, **run}
    return RunSettings(method=method_id, settings=dict(settings or {}), **chosen)


def simulated(
    run: RunSettings,
    fleet: Mapping[str, Learner],
    model: Arrays,
    *,
    contributors: Sequence[Collection[str]] | None = None,
    counted: Sequence[Collection[Counted]] | None = None,
) -> Simulated:
    """A whole run with fresh memories."""
    half = client_of(run.method, run.settings)
    participants = {name: Participant(half, learner) for name, learner in fleet.items()}
    return simulate(run, model, participants, contributors=contributors, counted=counted)
