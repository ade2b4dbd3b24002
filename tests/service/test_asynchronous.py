"""Asynchronous runs over real processes: a slow client never holds up the others, its answers count all the same, and
a coordinator that is killed in the middle ends in the bits of the log in its rows.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import torch

from thinwire.edge_client.data import ClientInfo
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.built_in import find_problem
from thinwire.methods.checkpoint import pack_state
from thinwire.methods.client_half import client_half
from thinwire.methods.model_file import read_model
from thinwire.methods.registry import find_method
from thinwire.methods.simulation import Counted, Participant, Simulated, simulate
from thinwire.operator.fleet import client_name
from thinwire.protocol.messages import ExchangeMetrics
from thinwire.protocol.settings import RunSettings

from .conftest import Service, until
from .test_simulation import checkpoint

CLIENTS, ROUNDS = 4, 6
NAMES = [client_name(index) for index in range(CLIENTS)]
SLOW = "256kbit/512kbit,100ms"
SETTINGS: dict[str, Any] = {
    "method": "fedavg", "rounds": ROUNDS, "cohort": 3, "max_staleness": 4, "concurrency": 4, "min_clients": 4,
    "seed": 3, "uplink": "quantise(3), zstd", "settings": {"error-feedback": True},
}  # fmt: skip


def log_of(service: Service, run: str) -> list[list[Counted]]:
    """Of each exchange, whose answers count in it, and to the tasks of which."""
    log: list[list[Counted]] = [[] for _ in service.metrics(run).exchanges]
    query = "SELECT counted_in, client, exchange FROM tasks WHERE run = ? AND state = 'accepted'"
    with closing(sqlite3.connect(service.data_dir / "thinwire.db")) as database:
        for counted_in, client, exchange in database.execute(query, [run]):
            log[counted_in].append(Counted(client, exchange))
    return log


def played_again(settings: RunSettings, model: Path, log: list[list[Counted]]) -> Simulated:
    """The run in this process, from the log of its acceptances; the evaluation by whoever was there."""
    torch.set_num_threads(1)
    task = find_problem("digits")
    half = client_half("fedavg")(find_method("fedavg").settings.model_validate(settings.settings))
    clients = [ClientInfo(name, index, CLIENTS, 0, "iid") for index, name in enumerate(NAMES)]
    participants = {client.name: Participant(half, Learner(task, client)) for client in clients}
    return simulate(settings, read_model(model), participants, counted=log)


def serve_all(service: Service) -> None:
    """Two clients on thin lines, two that are not. An exchange closes at three answers, so one that is slow is left
    over for the next, in which it counts long before the other slow one has answered again.
    """
    for index in range(CLIENTS):
        service.join_digits(index, CLIENTS, *(("--link", SLOW) if index >= CLIENTS - 2 else ()))


def reached(service: Service, run: str, exchange: int) -> bool:
    return service.view(run).exchange >= exchange


def ages_of(exchanges: list[ExchangeMetrics]) -> list[list[int]]:
    return [one.staleness or [] for one in exchanges if one.kind != "evaluate"]


def test_a_slow_client_counts_and_holds_up_nobody(service: Service, digits_model: Path) -> None:
    settings = RunSettings(name="buffered", **SETTINGS)
    run = service.start_run(digits_model, settings).id
    serve_all(service)
    until(service.clients_have_ended, service.children)
    assert service.view(run).outcome == "completed"
    exchanges, log = service.metrics(run).exchanges, log_of(service, run)
    assert [sum(ages) for ages in ages_of(exchanges)] == [3] * ROUNDS
    assert any(len(ages) > 1 for ages in ages_of(exchanges))  # something was counted in a later exchange
    for index, counted in enumerate(log[:-1]):
        ages = [index - one.exchange for one in counted]
        assert sorted(ages) == sorted(
            age for age, count in enumerate(exchanges[index].staleness or []) for _ in range(count)
        )
    replayed = played_again(settings, digits_model, log[:-1])
    assert checkpoint(service, run) == pack_state(replayed.state)


def test_killed_in_the_middle_it_ends_in_the_bits_of_its_log(service: Service, digits_model: Path) -> None:
    settings = RunSettings(name="killed", **SETTINGS)
    run = service.start_run(digits_model, settings).id
    serve_all(service)
    for index in (1, 3):
        until(partial(reached, service, run, index), service.children)
        service.serve(service.kill())
    until(service.clients_have_ended, service.children)
    assert service.view(run).outcome == "completed"
    log = log_of(service, run)
    assert [len(counted) for counted in log[:-1]] == [3] * ROUNDS
    assert any(one.exchange < index for index, counted in enumerate(log) for one in counted)
    replayed = played_again(settings, digits_model, log[:-1])
    assert checkpoint(service, run) == pack_state(replayed.state)
