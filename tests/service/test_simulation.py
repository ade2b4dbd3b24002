"""Service equals simulation: a run over HTTP ends in the bit-identical model of a plain loop in one process, which is
given the settings, the seed and whose answers the ledger shows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

import thinwire.methods
from thinwire.codecs import Arrays
from thinwire.coordinator.objects.local import LocalObjects
from thinwire.coordinator.objects.objects import checkpoint as checkpoint_name
from thinwire.edge_client.data import ClientInfo
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.built_in import find_problem
from thinwire.methods.checkpoint import pack_state
from thinwire.methods.client_half import client_half
from thinwire.methods.model_file import read_model
from thinwire.methods.registry import find_method
from thinwire.methods.simulation import Participant, Simulated, simulate
from thinwire.protocol.settings import RunSettings

from .conftest import ENVIRONMENT, Service, until

TOY_ROOT = Path(__file__).parent.parent / "methods" / "toy_root"
CLIENTS = 3
NAMES = [f"client-{index:02d}" for index in range(CLIENTS)]
METHODS: dict[str, dict[str, Any]] = {
    "fedavg": {"server-optimizer": "momentum", "server-momentum": 0.5},
    "toy_relay": {"steps": 2},
    "feddkd": {"distil-steps": 2},
    "feddlr": {"energy-up": 0.8},
    "sparse_masks": {"epochs": 1, "lambda": 0.5},
    "progfed": {"schedule": [1, 1, 1], "warm-up": 1},
    "seed_scalars": {"steps": 2, "perturbations": 2},
    "fd_alu": {"local-rounds-per-exchange": 2},
}


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """A coordinator that knows the toy, as its clients will and as this process does."""
    here = str(TOY_ROOT / "thinwire" / "methods")
    monkeypatch.setattr(thinwire.methods, "__path__", [*thinwire.methods.__path__, here])
    with Service(tmp_path, environment={**ENVIRONMENT, "PYTHONPATH": str(TOY_ROOT)}) as made:
        made.serve()
        yield made


def contributors(service: Service, run: str) -> list[set[str]]:
    """Of each exchange: whose answers count. The ledger would also have those that broke off."""
    sets: list[set[str]] = [set() for _ in service.metrics(run).exchanges]
    query = "SELECT exchange, client FROM tasks WHERE run = ? AND state = 'accepted'"
    with closing(sqlite3.connect(service.data_dir / "thinwire.db")) as database:
        for exchange, client in database.execute(query, [run]):
            sets[exchange].add(client)
    return sets


def checkpoint(service: Service, run: str) -> bytes:
    """Of the state behind the last exchange."""
    return LocalObjects(service.data_dir).local(checkpoint_name(run, service.view(run).exchange)).read_bytes()


def simulated(settings: RunSettings, model: Arrays, sets: list[set[str]], names: Sequence[str] = NAMES) -> Simulated:
    torch.set_num_threads(1)
    task = find_problem("digits")
    half = client_half(settings.method)(find_method(settings.method).settings.model_validate(settings.settings))
    clients = [ClientInfo(name, index, len(names), 0, "iid") for index, name in enumerate(names)]
    participants = {client.name: Participant(half, Learner(task, client), own_first=True) for client in clients}
    return simulate(settings, model, participants, contributors=sets)


def test_runs_over_the_service_end_as_their_replay_does(service: Service, digits_model: Path) -> None:
    """All at once, on three clients of which each exchange counts two: whoever is free."""
    runs = {}
    for method, given in METHODS.items():
        settings = RunSettings(name=method, method=method, settings=given, rounds=3, cohort=2, seed=11)
        runs[service.start_run(digits_model, settings).id] = settings
    for index in range(CLIENTS):
        service.join_digits(index, CLIENTS)
    until(service.clients_have_ended, service.children)
    for run, settings in runs.items():
        assert service.view(run).outcome == "completed"
        sets = contributors(service, run)
        assert all(len(names) == 2 for names in sets)
        replayed = simulated(settings, read_model(digits_model), sets)
        assert checkpoint(service, run) == pack_state(replayed.state), settings.method
        if replayed.model is not None:
            served = read_model(service.fetch_model(run, service.folder / f"{run}.safetensors"))
            assert list(served) == list(replayed.model)
            for name, array in replayed.model.items():
                assert served[name].tobytes() == array.tobytes(), (settings.method, name)
        payloads = [(one.uplink_payload_bytes, one.downlink_payload_bytes) for one in service.metrics(run).exchanges]
        assert payloads == [(one.uplink_bytes, one.downlink_bytes) for one in replayed.exchanges]
