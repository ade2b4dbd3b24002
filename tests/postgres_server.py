"""A PostgreSQL of its own for the tests, as fast as one that may lose everything; without one, they are skipped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from benchmarks import postgres_server as started
from benchmarks.postgres_server import NoPostgresError, PostgresServer

__all__ = ["PostgresServer", "postgres_server"]

_FAST: Final = ("fsync=off", "full_page_writes=off", "shared_buffers=16MB", "autovacuum=off", "jit=off")


@contextlib.contextmanager
def postgres_server(folder: Path) -> Iterator[PostgresServer]:
    """All processes that name the same folder share one; the last one ends it. Skips where there is none."""
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(started.postgres_server(folder, _FAST))
        except NoPostgresError as error:
            pytest.skip(str(error))
        yield server
