"""The database: migrated from nothing, commits in groups, survives the death of its process."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, insert, select, text

from tests.coordinator.faults import filled, small_disk
from thinwire.coordinator.records import migrating, tables
from thinwire.coordinator.records.database import Database, upsert
from thinwire.protocol.reasons import ProblemError

links = tables.links


def adding(name: str) -> Callable[[Connection], str]:
    """A work that adds a row and returns its name."""

    def work(connection: Connection) -> str:
        connection.execute(insert(links).values(client=name, sent_bytes=1, received_bytes=2))
        return name

    return work


def names(connection: Connection) -> set[str]:
    return set(connection.scalars(select(links.c.client)))


def opened(path: Path, use: Callable[[Database], Awaitable[None]]) -> None:
    async def run() -> None:
        database = Database(path)
        await database.open()
        try:
            await use(database)
        finally:
            await database.close()

    asyncio.run(run())


def test_many_transactions_are_few_commits(tmp_path: Path) -> None:
    async def write(database: Database) -> None:
        told = await asyncio.gather(*(database.transaction(adding(f"c{i}")) for i in range(500)))
        assert told == [f"c{i}" for i in range(500)]
        assert await database.read(names) == set(told)
        assert database.commits <= 5

    opened(tmp_path / "db", write)


def test_a_bad_transaction_does_not_fail_the_others(tmp_path: Path) -> None:
    def defect(connection: Connection) -> None:
        adding("d")(connection)
        raise ZeroDivisionError("a defect")

    def refused(connection: Connection) -> None:
        adding("e")(connection)
        raise ProblemError("run-exists")

    async def write(database: Database) -> None:
        works = [adding("a"), adding("b"), adding("a"), defect, refused, adding("c")]
        told = await asyncio.gather(*(database.transaction(work) for work in works), return_exceptions=True)
        assert [type(one) for one in told] == [str, str, ProblemError, ZeroDivisionError, ProblemError, str]
        assert [one.reason for one in told if isinstance(one, ProblemError)] == ["storage-failed", "run-exists"]
        assert await database.read(names) == {"a", "b", "c"}
        assert database.commits == 1

    opened(tmp_path / "db", write)


def test_a_transaction_is_all_or_nothing(tmp_path: Path) -> None:
    def twice(connection: Connection) -> None:
        adding("a")(connection)
        adding("a")(connection)

    async def write(database: Database) -> None:
        with pytest.raises(ProblemError, match="storage-failed"):
            await database.transaction(twice)
        assert await database.read(names) == set()

    opened(tmp_path / "db", write)


def test_a_transaction_sees_what_its_group_wrote_before_it(tmp_path: Path) -> None:
    async def write(database: Database) -> None:
        works: list[Callable[[Connection], object]] = [names, adding("a"), names, adding("b"), names]
        told = await asyncio.gather(*(database.transaction(work) for work in works))
        assert told == [set(), "a", {"a"}, "b", {"a", "b"}]
        assert database.commits == 1

    opened(tmp_path / "db", write)


def test_a_read_is_of_one_moment(tmp_path: Path) -> None:
    async def use(database: Database) -> None:
        loop = asyncio.get_running_loop()

        def read(connection: Connection) -> tuple[set[str], set[str]]:
            before = names(connection)
            asyncio.run_coroutine_threadsafe(database.transaction(adding("a")), loop).result()
            return before, names(connection)

        assert await database.read(read) == (set(), set())
        assert await database.read(names) == {"a"}

    opened(tmp_path / "db", use)


def test_an_upsert_adds_to_what_is_there(tmp_path: Path) -> None:
    def add(connection: Connection) -> None:
        new = upsert(connection, links)
        rows = [{"client": name, "sent_bytes": 2, "received_bytes": 0} for name in ("a", "b")]
        more = {"sent_bytes": links.c.sent_bytes + new.excluded.sent_bytes}
        connection.execute(new.on_conflict_do_update(index_elements=["client"], set_=more), rows)

    async def use(database: Database) -> None:
        await database.transaction(adding("a"))
        await database.transaction(add)
        sent = await database.read(
            lambda connection: connection.execute(select(links.c.client, links.c.sent_bytes)).all()
        )
        assert {tuple(row) for row in sent} == {("a", 3), ("b", 2)}

    opened(tmp_path / "db", use)


def test_whoever_does_not_wait_any_more_is_no_harm(tmp_path: Path) -> None:
    async def write(database: Database) -> None:
        gone = asyncio.ensure_future(database.transaction(adding("a")))
        await asyncio.sleep(0)  # queued
        gone.cancel()
        await database.transaction(adding("b"))
        assert await database.read(names) == {"a", "b"}

    opened(tmp_path / "db", write)


def test_before_and_after_its_life_nothing_is_done(tmp_path: Path) -> None:
    async def use() -> None:
        database = Database(tmp_path / "db")
        for opening in (False, True):
            if opening:
                await database.open()
                await database.close()
            with pytest.raises(ProblemError, match="unavailable"):
                await database.transaction(adding("a"))
            with pytest.raises(ProblemError, match="unavailable"):
                await database.read(names)

    asyncio.run(use())


def test_what_is_queued_is_committed_before_the_end(tmp_path: Path) -> None:
    async def use(database: Database) -> None:
        queued = [asyncio.ensure_future(database.transaction(adding(f"c{i}"))) for i in range(3000)]
        await asyncio.sleep(0)
        await database.close()
        assert [one.result() for one in queued] == [f"c{i}" for i in range(3000)]

    opened(tmp_path / "db", use)


def test_a_new_database_is_as_migrations_would_make_it(tmp_path: Path) -> None:
    async def use(_: Database) -> None:
        pass

    for _ in range(2):  # the second time there is nothing to do
        opened(tmp_path / "db", use)
    engine = create_engine(f"sqlite:///{tmp_path / 'migrated'}")
    with engine.begin() as connection:
        migrating.upgrade(connection)
    engine.dispose()
    with sqlite3.connect(tmp_path / "db") as made, sqlite3.connect(tmp_path / "migrated") as migrated:
        both = made, migrated
        for table in (*tables.metadata.tables, "alembic_version"):
            for pragma in ("table_info", "index_list", "foreign_key_list"):
                found = [sorted(row[1:] for row in of.execute(f"PRAGMA {pragma}({table})")) for of in both]
                assert found[0] == found[1], (table, pragma)
        names = [sorted(of.execute("SELECT type, name FROM sqlite_master")) for of in both]
        assert names[0] == names[1]
        versions = [of.execute("SELECT version_num FROM alembic_version").fetchall() for of in both]
        assert versions[0] == versions[1] == [(migrating.newest(),)]
        assert made.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    made.close()
    migrated.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from sqlalchemy import insert
from thinwire.coordinator.records import migrating, tables
from thinwire.coordinator.records.database import Database

async def write():
    database = Database(Path(sys.argv[1]))
    await database.open()
    for index in range(1_000_000):
        row = insert(tables.links).values(client=str(index), sent_bytes=0, received_bytes=0)
        await database.transaction(lambda connection: connection.execute(row) and None)
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
    monkeypatch.setattr("thinwire.coordinator.records.sqlite.BUSY_TIMEOUT_MS", 50)

    async def write(database: Database) -> None:
        other = sqlite3.connect(tmp_path / "db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        told = await asyncio.gather(*(database.transaction(adding(name)) for name in "abc"), return_exceptions=True)
        assert [one.reason for one in told if isinstance(one, ProblemError) and one.retry] == ["storage-failed"] * 3
        other.execute("ROLLBACK")
        other.close()
        await database.transaction(adding("a"))
        assert await database.read(names) == {"a"}

    opened(tmp_path / "db", write)


def test_a_full_disk_is_a_reason_and_passes(tmp_path: Path) -> None:
    def large(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE IF NOT EXISTS ballast (bytes BLOB)"))
        connection.execute(text("INSERT INTO ballast VALUES (zeroblob(8000000))"))

    with small_disk(tmp_path / "disk", "4m") as disk:

        async def write(database: Database) -> None:
            await database.transaction(adding("a"))
            with filled(disk):
                told = await asyncio.gather(
                    *(database.transaction(work) for work in (adding("b"), large, adding("c"))), return_exceptions=True
                )
                reasons = [one.reason if isinstance(one, ProblemError) else one for one in told]
                assert reasons == ["storage-full"] * 3
            await database.transaction(adding("d"))
            assert await database.read(names) == {"a", "d"}

        opened(disk / "db", write)


def test_a_read_only_database_is_a_reason(tmp_path: Path) -> None:
    async def write(database: Database) -> None:
        await database.transaction(lambda connection: connection.execute(text("PRAGMA query_only = ON")) and None)
        told = await asyncio.gather(*(database.transaction(adding(name)) for name in "ab"), return_exceptions=True)
        assert [one.reason for one in told if isinstance(one, ProblemError)] == ["storage-failed"] * 2
        assert await database.read(names) == set()

    opened(tmp_path / "db", write)


def test_a_database_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    async def open_it() -> None:
        await Database(tmp_path / "nowhere" / "db").open()

    with pytest.raises(ProblemError, match=r"storage-failed: the database .*nowhere"):
        asyncio.run(open_it())
