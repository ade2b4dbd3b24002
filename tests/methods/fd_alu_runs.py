"""Small runs of fd_alu, single blocks, and answers by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tests.methods.fleet import client_of, first_model, learners, run_settings
from thinwire.codecs import Arrays, Chain
from thinwire.edge_client.learner import Learner
from thinwire.methods.arrays import same_bits, under
from thinwire.methods.fd_alu import FdAluSettings
from thinwire.methods.fd_alu.server import Server
from thinwire.methods.reducers import Bounds
from thinwire.methods.server_half import RunFacts
from thinwire.methods.simulation import Participant, Simulated, simulate
from thinwire.methods.values import Contribution, Outcome, Task

KINDS = ["class", "proxy", "sample"]
ALLOW = ["sample-knowledge"]
FLEET = learners(3, examples=120, split="dirichlet:1", allow=ALLOW)
MODEL = first_model(FLEET)
CLASSES = 10
# Few enough steps for tests; 120 examples leave 10 for the proxy set.
SMALL = {"batch-size": 16, "proxy-samples": 8}


def trained(
    fleet: Mapping[str, Learner] = FLEET, rounds: int = 2, given: Mapping[str, Any] | None = None, **run: Any
) -> tuple[Simulated, dict[str, Arrays]]:
    """A run, and the models that the clients have at its end."""
    settings = run_settings("fd_alu", {**SMALL, **(given or {})}, rounds=rounds, **{"cohort": len(fleet), **run})
    half = client_of("fd_alu", settings.settings)
    participants = {name: Participant(half, learner) for name, learner in fleet.items()}
    result = simulate(settings, MODEL, participants)
    return result, {name: under("model", one.memory) for name, one in participants.items()}


def equal(first: Mapping[str, Arrays], second: Mapping[str, Arrays]) -> bool:
    return all(same_bits(first[name], second[name]) for name in first)


def server_of(rounds: int = 4, clients: int = 3, **given: Any) -> Server:
    return Server(FdAluSettings.model_validate(given), RunFacts(rounds, 7, Bounds(clients)))


def class_answer(owned: Mapping[int, tuple[int, list[float]]], classes: int = 3) -> Arrays:
    """By class: how many, and their mean scores."""
    return {
        "owned": np.isin(np.arange(classes), list(owned)),
        "counts": np.array([owned[label][0] for label in sorted(owned)], np.uint32),
        "rows": np.array([owned[label][1] for label in sorted(owned)], np.float32).reshape(-1, classes),
    }


def after(server: Server, answers: Mapping[str, Arrays], model: Arrays | None = None) -> Any:
    """The state behind the first exchange."""
    state = server.start(model or {"w": np.zeros((3, 2), np.float32)}, 0)
    total = server.reducer.zero()
    for slot, (name, arrays) in enumerate(answers.items()):
        contribution = Contribution(slot, name, 1, arrays)
        server.reducer.check(contribution)
        total = server.reducer.add(total, contribution)
    return server.advance(state, total)


def block(learner: Learner, state: Any, server: Server, memory: Arrays, uplink: str = "", **given: Any) -> Outcome:
    """What a client makes of the exchange that comes next."""
    task = server.task(state)
    assert task is not None
    private = server.private(state, task, learner.name)
    parts = {**task.parts, **({} if private is None else {"private": private})}
    learner.prepare(3, reply=task.reply, uplink=Chain.parse(uplink))
    half = client_of("fd_alu", {**SMALL, **given})
    return half.perform(Task(task.round, 0, task.kind, parts, task.reply, options=task.options), memory, learner)


def label_answer(rows: list[list[float]], proxy_set: int | None = 1) -> Arrays:
    found: dict[str, Any] = {"labels": np.array(rows, np.float32)}
    return found if proxy_set is None else {**found, "set": np.full(4, proxy_set, np.uint64)}


def sample_answer(hashes: list[list[int]], labels: list[int], scores: list[list[float]]) -> Arrays:
    return {
        "hashes": np.array(hashes, np.int8),
        "labels": np.array(labels, np.uint16),
        "logits": np.array(scores, np.float32),
    }
