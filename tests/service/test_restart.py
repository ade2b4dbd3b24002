"""A coordinator that is killed and started again goes on where it was, and its clients with it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from thinwire.operator.follow import follow
from thinwire.operator.tables import total
from thinwire.protocol.settings import RunSettings

from .conftest import Service, until

CLIENTS = 2
SETTINGS = RunSettings(name="killed", rounds=12, cohort=CLIENTS)


def _finish(service: Service, run: str) -> None:
    until(lambda: service.view(run).state == "finished", service.children)
    until(service.clients_have_ended, service.children)
    assert service.view(run).outcome == "completed"


@pytest.mark.long
def test_killed_and_started_again_it_ends_in_the_same_model(service: Service, digits_model: Path) -> None:
    for index in range(CLIENTS):
        service.join_digits(index, CLIENTS)
    run = service.start_run(digits_model, SETTINGS).id
    watcher, assistant = service.connect(), ThreadPoolExecutor(1)
    watched = assistant.submit(follow, watcher, run, lambda _view, _rounds: None)
    until(lambda: service.view(run).exchange >= 2, service.children)
    exchange = service.view(run).exchange
    service.serve(service.kill())
    assert service.view(run).exchange >= exchange
    _finish(service, run)
    assert watched.result(timeout=30).outcome == "completed"
    assistant.shutdown()
    watcher.close()
    # What the ledger had not stored yet is missing; nothing is counted that was not on the wire.
    for name in service.clients:
        own = total(row for row in service.ledger(run).rows if row.client == name)
        sent, received = service.kernel(name)
        assert 0 < own.uplink <= sent
        assert 0 < own.downlink <= received
    killed = load_file(service.fetch_model(run, service.folder / "killed.safetensors"))

    # The clients' folders are new: nothing but seed and contributors is the same.
    with Service(service.folder / "quiet") as quiet:
        quiet.serve()
        for index in range(CLIENTS):
            quiet.join_digits(index, CLIENTS)
        again = quiet.start_run(digits_model, SETTINGS).id
        _finish(quiet, again)
        undisturbed = load_file(quiet.fetch_model(again, service.folder / "undisturbed.safetensors"))
        assert killed.keys() == undisturbed.keys()
        assert all(killed[name].tobytes() == undisturbed[name].tobytes() for name in killed)
        assert [one.metrics["accuracy"] for one in service.metrics(run).exchanges] == [
            one.metrics["accuracy"] for one in quiet.metrics(again).exchanges
        ]
