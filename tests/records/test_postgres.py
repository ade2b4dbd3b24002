"""PostgreSQL: what a server and a network between do to a database is no harm to whoever writes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
from sqlalchemy import Connection, insert, select, text, update

from tests.postgres_server import PostgresServer
from thinwire.coordinator.records import migrating, tables
from thinwire.coordinator.records.database import Database
from thinwire.coordinator.records.postgres import Postgres
from thinwire.protocol.reasons import ProblemError

links = tables.links
PID = text("SELECT pg_backend_pid()")


def adding(name: str) -> Callable[[Connection], str]:
    def work(connection: Connection) -> str:
        connection.execute(insert(links).values(client=name, sent_bytes=1, received_bytes=2))
        return name

    return work


def names(connection: Connection) -> set[str]:
    return set(connection.scalars(select(links.c.client)))


def opened(url: str, *uses: Callable[[Database], Awaitable[None]]) -> None:
    """Each use with a process's connections of its own, all at once."""

    async def run(use: Callable[[Database], Awaitable[None]]) -> None:
        database = Database(url)
        await database.open()
        try:
            await use(database)
        finally:
            await database.close()

    async def all_at_once() -> None:
        await asyncio.gather(*map(run, uses))

    asyncio.run(all_at_once())


def end(postgres: PostgresServer, pid: int) -> None:
    """The server ends this connection."""
    import psycopg

    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s)", (pid,))


def test_replicas_that_begin_at_once_migrate_once(postgres: PostgresServer) -> None:
    async def use(database: Database) -> None:
        assert await database.read(names) <= {"a", "b", "c"}

    opened(postgres.create(), *[use] * 3)


@pytest.mark.long
def test_a_new_database_is_as_migrations_would_make_it(postgres: PostgresServer) -> None:
    columns = text(
        "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable, column_default,"
        " collation_name FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, 2"
    )
    indices = text("SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = current_schema() ORDER BY 1, 2")
    found = []
    for prepare in (migrating.upgrade, migrating.make):
        kind = Postgres(postgres.create())
        with kind.migrators.begin() as connection:
            prepare(connection)
            kind.settle(connection)
            found.append([connection.execute(query).all() for query in (columns, indices)])
        kind.engine.dispose()
    assert found[0] == found[1]


def test_text_is_sorted_by_its_bytes(postgres: PostgresServer) -> None:
    given = ["a", "B", "a-b", "ab", "_", "Z"]

    async def use(database: Database) -> None:
        await asyncio.gather(*(database.transaction(adding(name)) for name in given))
        ordered = select(links.c.client).order_by(links.c.client)
        assert await database.read(lambda connection: list(connection.scalars(ordered))) == sorted(given)
        collations = "SELECT DISTINCT collation_name FROM information_schema.columns WHERE table_name = 'clients'"
        assert set(await database.read(lambda connection: list(connection.scalars(text(collations))))) == {"C", None}

    opened(postgres.create(), use)


def test_what_replicas_read_and_write_is_as_if_one_came_after_the_other(postgres: PostgresServer) -> None:
    """No count is lost, though each reads before it writes."""

    def count(connection: Connection) -> None:
        before = connection.execute(select(links.c.sent_bytes).where(links.c.client == "a")).scalar_one()
        connection.execute(update(links).where(links.c.client == "a").values(sent_bytes=before + 1))

    async def use(database: Database) -> None:
        for _ in range(50):
            await database.transaction(count)

    async def begin(database: Database) -> None:
        await database.transaction(adding("a"))

    async def look(database: Database) -> None:
        query = select(links.c.sent_bytes)
        assert await database.look(lambda connection: connection.execute(query).scalar_one()) == 101

    url = postgres.create()
    for uses in ([begin], [use, use], [look]):
        opened(url, *uses)


def test_a_connection_that_was_cut_while_nobody_used_it_is_no_harm(postgres: PostgresServer) -> None:
    async def use(database: Database) -> None:
        for name in "abc":
            end(postgres, await database.transaction(lambda connection: connection.scalar(PID)))
            await database.transaction(adding(name))
            end(postgres, await database.read(lambda connection: connection.scalar(PID)))
            assert name in await database.read(names)

    opened(postgres.create(), use)


def test_a_connection_that_is_cut_in_a_transaction_is_a_reason_and_nothing_is_written(postgres: PostgresServer) -> None:
    def cut(connection: Connection) -> None:
        adding("a")(connection)
        end(postgres, connection.scalar(PID) or 0)
        connection.scalar(PID)

    async def use(database: Database) -> None:
        for _ in range(2):
            told = await asyncio.gather(
                *(database.transaction(work) for work in (adding("b"), cut, adding("c"))), return_exceptions=True
            )
            assert [one.reason for one in told if isinstance(one, ProblemError)] == ["storage-failed"] * 3
            assert await database.read(names) == set()
        await database.transaction(adding("a"))
        assert await database.read(names) == {"a"}

    opened(postgres.create(), use)


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_whose_answer_is_lost_is_asked_for(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    """What was committed is told so, and what was not is told so."""

    async def use(database: Database) -> None:
        commit = database.kind.engine.dialect.do_commit

        def lost(connection: object) -> None:
            monkeypatch.setattr(database.kind.engine.dialect, "do_commit", commit)
            if committed:
                commit(connection)  # type: ignore[arg-type]
            pid = connection.driver_connection.info.backend_pid  # type: ignore[attr-defined]
            end(postgres, pid)
            connection.cursor().execute("SELECT 1")  # type: ignore[attr-defined]

        monkeypatch.setattr(database.kind.engine.dialect, "do_commit", lost)
        told = await asyncio.gather(database.transaction(adding("a")), return_exceptions=True)
        assert [getattr(one, "reason", one) for one in told] == ["a" if committed else "storage-failed"]
        assert await database.read(names) == ({"a"} if committed else set())

    opened(postgres.create(), use)


def test_a_process_that_freezes_in_a_transaction_keeps_the_others_no_longer_than_agreed(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thinwire.coordinator.records.postgres.FROZEN_MS", 100)
    frozen, others = threading.Event(), threading.Event()

    def freeze(connection: Connection) -> None:
        adding("a")(connection)
        frozen.set()
        others.wait()

    async def stopped(database: Database) -> None:
        await database.transaction(freeze)  # done again, after theirs
        assert await database.read(names) == {"a", "b"}

    async def going(database: Database) -> None:
        try:
            await asyncio.to_thread(frozen.wait)
            await database.transaction(adding("b"))
        finally:
            others.set()

    opened(postgres.create(), stopped, going)
