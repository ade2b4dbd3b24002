"""Fixtures of the client's tests: a server that cuts, and transfers to it that do not wait."""

from __future__ import annotations

import importlib
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import torch

import thinwire.methods as methods
from tests.coordinator.served import Served, free_port
from tests.edge_client.cutting_server import CuttingServer, running
from tests.edge_client.fleet import Fleet
from tests.edge_client.scripted import MakeTransfer as MakeTransfer
from tests.edge_client.scripted import ScriptedClient
from thinwire.edge_client.link.sockets import CountingBackend
from thinwire.edge_client.link.transfer import Patience, Transfer


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


@pytest.fixture
def client(
    tmp_path: Path, server: CuttingServer, make_transfer: MakeTransfer, monkeypatch: pytest.MonkeyPatch
) -> ScriptedClient:
    """A client that knows one more method than there are: `toy_steps`."""
    # One more folder of methods: the registry is a listing.
    toys = str(Path(__file__).with_name("toy_methods"))
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, toys])
    importlib.import_module("thinwire.methods.toy_steps.client").Client.performed = 0
    return ScriptedClient(tmp_path / "client", server, make_transfer)


@pytest.fixture
def kept_settings() -> Iterator[None]:
    """What a client process sets for itself is undone in this one."""
    handler, threads = signal.getsignal(signal.SIGTERM), torch.get_num_threads()
    yield
    signal.signal(signal.SIGTERM, handler)
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode("default")
