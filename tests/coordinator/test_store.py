"""The database: migrated from nothing, commits in groups, survives the death of its process."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import insert, select

from thinwire.coordinator import tables
from thinwire.coordinator.store import Store
from thinwire.protocol.reasons import ProblemError


def link(name: str) -> dict[str, object]:
    return {"client": name, "sent_bytes": 1, "received_bytes": 2}


def test_many_writes_are_few_commits(tmp_path: Path) -> None:
    async def write() -> int:
        store = Store(tmp_path / "db")
        await store.open()
        await asyncio.gather(*(store.write(insert(tables.links).values(link(f"c{i}"))) for i in range(500)))
        rows = await store.read(select(tables.links))
        await store.close()
        assert len(rows) == 500
        return store.commits

    assert asyncio.run(write()) <= 5


def test_one_bad_write_does_not_fail_the_others(tmp_path: Path) -> None:
    async def write() -> None:
        store = Store(tmp_path / "db")
        await store.open()
        names = ["a", "b", "a", "c"]
        results = await asyncio.gather(
            *(store.write(insert(tables.links).values(link(name))) for name in names), return_exceptions=True
        )
        assert [type(result) for result in results] == [type(None), type(None), ProblemError, type(None)]
        assert {row.client for row in await store.read(select(tables.links))} == {"a", "b", "c"}
        await store.close()

    asyncio.run(write())


def test_a_write_is_all_or_nothing(tmp_path: Path) -> None:
    async def write() -> None:
        store = Store(tmp_path / "db")
        await store.open()
        statement = insert(tables.links)
        with pytest.raises(ProblemError):
            await store.write(statement.values(link("a")), statement.values(link("a")))
        assert await store.read(select(tables.links)) == []
        await store.close()

    asyncio.run(write())


def test_migrations_make_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    async def build() -> None:
        for _ in range(2):  # the second time there is nothing to do
            store = Store(tmp_path / "db")
            await store.open()
            await store.close()

    asyncio.run(build())
    with sqlite3.connect(tmp_path / "db") as connection:
        for table in tables.metadata.sorted_tables:
            columns = {row[1] for row in connection.execute(f"PRAGMA table_info({table.name})")}
            assert columns == {column.name for column in table.columns}
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from sqlalchemy import insert
from thinwire.coordinator import tables
from thinwire.coordinator.store import Store

async def write():
    store = Store(Path(sys.argv[1]))
    await store.open()
    for index in range(1_000_000):
        await store.write(insert(tables.links).values(client=str(index), sent_bytes=0, received_bytes=0))
        print(index, flush=True)

asyncio.run(write())
"""


def test_what_was_committed_survives_the_kill(tmp_path: Path) -> None:
    path = tmp_path / "db"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) == 50:
                os.kill(writer.pid, signal.SIGKILL)
                break
        told = [50, *(int(line) for line in writer.stdout if line.endswith("\n"))]
    with sqlite3.connect(path) as connection:
        stored = {int(row[0]) for row in connection.execute("SELECT client FROM links")}
    connection.close()
    assert set(range(max(told) + 1)) <= stored


def test_a_locked_database_is_a_reason_and_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thinwire.coordinator.store.BUSY_TIMEOUT_MS", 50)

    async def write() -> None:
        store = Store(tmp_path / "db")
        await store.open()
        other = sqlite3.connect(tmp_path / "db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(ProblemError) as caught:
            await store.write(insert(tables.links).values(link("a")))
        assert caught.value.reason == "storage-failed"
        assert caught.value.retry
        other.execute("ROLLBACK")
        other.close()
        await store.write(insert(tables.links).values(link("a")))
        await store.close()

    asyncio.run(write())
