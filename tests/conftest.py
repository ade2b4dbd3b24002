"""Fixtures that every part of the tests may use."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.postgres_server import PostgresServer, postgres_server

# Test files run side by side, so each process keeps to one thread; said before numpy and torch are loaded.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# No timing assertions: a slow machine is not a defect. `make properties` takes the other profile.
hypothesis.settings.register_profile("thinwire", deadline=None, max_examples=60)
hypothesis.settings.register_profile("fuzz", deadline=None, max_examples=3000)
hypothesis.settings.load_profile("thinwire")

ROOT = Path(__file__).resolve().parent.parent
# Folders whose tests start processes and wait for them.
_LONGEST_FILES = ("service", "coordinator", "chaos")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: the last ones of a run on several processors would keep one of them alone."""
    items.sort(key=lambda item: item.path.relative_to(ROOT / "tests").parts[0] not in _LONGEST_FILES)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture
def free_port() -> int:
    """A TCP port on the loopback that nobody listened at a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def shared_data() -> Callable[[str], Path]:
    """The path of a data set that lies beside the checkout; skips the test where it is absent."""

    def find(name: str) -> Path:
        path = ROOT.parent / "shared" / "data" / name
        if not path.exists():
            pytest.skip(f"the data set {name} is not on this machine")
        return path

    return find


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """A PostgreSQL, one for all processes that run the tests; skips where there is none."""
    folder = tmp_path_factory.getbasetemp()
    with postgres_server((folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder) / "postgres") as server:
        yield server
