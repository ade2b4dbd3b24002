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
_WAITING = ("service", "coordinator", "chaos")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that wait among those that compute, evenly: whole files go to a free process in this order, and one that
    waits leaves its processor to the others.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    waiting = [path for path in files if path.relative_to(ROOT / "tests").parts[0] in _WAITING]
    computing = [path for path in files if path not in waiting]
    place = {path: index / len(group) for group in (waiting, computing) for index, path in enumerate(group)}
    items[:] = [item for path in sorted(files, key=lambda path: place[path]) for item in files[path]]


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
