"""Coordinators as real processes; none outlives its test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.coordinator.served import Served, free_port


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts coordinators; all of them are gone afterwards."""
    started: list[Served] = []

    def start(**options: Any) -> Served:
        served = Served(tmp_path / f"data-{len(started)}", free_port(), options)
        served.data_dir.mkdir()
        started.append(served)
        served.start()
        return served

    yield start
    for served in started:
        served.kill()
        assert "Traceback" not in served.log, served.log[-5000:]


@pytest.fixture
def served(serve: Callable[..., Served]) -> Served:
    """One coordinator with default settings."""
    return serve()


@pytest.fixture(scope="session")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One coordinator for the tests of several files: what they do to it is not to hurt it. It hears every guess."""
    patient = {"max_failures_per_address": 10**9, "max_requests_per_client": 10**6, "max_requests_per_address": 10**6}
    served = Served(tmp_path_factory.mktemp("standing"), free_port(), patient)
    served.start()
    yield served
    assert served.process is not None
    assert served.process.poll() is None
    served.kill()
    assert "Traceback" not in served.log, served.log[-5000:]
