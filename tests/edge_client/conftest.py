"""Fixtures of the client's tests: a server that cuts, and transfers to it that do not wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.coordinator.served import Served, free_port
from tests.edge_client.cutting_server import CuttingServer, running
from tests.edge_client.fleet import Fleet
from thinwire.edge_client.link.sockets import CountingBackend
from thinwire.edge_client.link.transfer import Patience, Transfer

MakeTransfer = Callable[..., Transfer]


@pytest.fixture
def server() -> Iterator[CuttingServer]:
    with running() as found:
        yield found


@pytest.fixture
def said() -> list[str]:
    """What the client told its user."""
    return []


@pytest.fixture
def slept() -> list[float]:
    """How long the client would have waited, pause by pause."""
    return []


@pytest.fixture
def make_transfer(said: list[str], slept: list[float]) -> Iterator[MakeTransfer]:
    """A transfer whose clock is its own pauses."""
    made: list[Transfer] = []

    def make(address: str, patience: Patience | None = None, backend: CountingBackend | None = None) -> Transfer:
        transfer = Transfer(
            address,
            backend or CountingBackend(),
            rng=Random(0),
            say=said.append,
            patience=patience or Patience(stalled_after_s=20),
            clock=lambda: sum(slept),
            sleep=slept.append,
        )
        made.append(transfer)
        return transfer

    yield make
    for transfer in made:
        transfer.close()


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Served]:
    """A real coordinator in a process of its own."""
    served = Served(tmp_path / "coordinator", free_port())
    served.data_dir.mkdir()
    served.start()
    yield served
    served.kill()


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    """Starts `thinwire-client` processes; none outlives the test."""
    found = Fleet(tmp_path)
    yield found
    found.end()
