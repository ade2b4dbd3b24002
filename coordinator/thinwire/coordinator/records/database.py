"""The database: SQLite in WAL mode, one writer that commits in groups.

What a transaction wrote is committed when it returns: it survives the death of the process (synchronous=NORMAL), and
with `durable` also the death of the machine (FULL).
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

import alembic.command
import structlog
from alembic.config import Config
from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from thinwire.protocol.reasons import ProblemError

MAX_GROUP = 1000
"""Transactions in one commit; measured: one row per commit 600/s, in groups 25,000/s."""
BUSY_TIMEOUT_MS = 5000
READERS = 4

T = TypeVar("T")
_BEGIN = "thinwire_begin"
_log = structlog.get_logger("thinwire.coordinator")


@dataclass(slots=True)
class _Transaction(Generic[T]):
    work: Callable[[Connection], T]
    durable: bool
    done: asyncio.Future[T] = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    result: T | None = None
    error: Exception | None = None

    def finish(self) -> None:
        if self.done.done():
            return  # its caller has gone
        if self.error is None:
            self.done.set_result(cast(T, self.result))
        else:
            self.done.set_exception(self.error)


class Database:
    """`open` first, `close` last; everything else in between. `commits`: how many groups have been committed.

    A group is one call in the writer's thread: handing over each transaction costs more than it does. Each is a
    savepoint of its group and sees what those before it wrote.
    """

    def __init__(self, path: Path) -> None:
        self._engine: Engine = create_engine(f"sqlite:///{path}")
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin)
        # A writer takes its lock first: one that has read before would wait for another in vain.
        self._writers = self._engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
        self._queue: asyncio.Queue[_Transaction[Any] | None] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None
        self._writing = ThreadPoolExecutor(1, "database-writer")
        self._reading = ThreadPoolExecutor(READERS, "database-reader")
        # Each statement of it is a moment of its own.
        self._looking: Connection | None = None
        self.commits = 0

    async def open(self) -> None:
        """Migrates the database to the newest tables and starts the writer. Raises: `storage-failed`."""
        try:
            await _in(self._writing, self._migrate)
        except DBAPIError as error:
            self._end()
            raise ProblemError(
                _problem(error).reason, f"the database {self._engine.url.database}: {error.orig}"
            ) from None
        self._looking = self._engine.execution_options(**{_BEGIN: ""}).connect()
        self._writer = asyncio.create_task(self._write_all(), name="database-writer")

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.set_main_option("path_separator", "os")
        with self._writers.begin() as connection:
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")

    async def close(self) -> None:
        """Commits what is queued and closes."""
        writer, self._writer = self._writer, None
        if writer is not None:
            self._queue.put_nowait(None)
            await writer
        self._end()

    def _end(self) -> None:
        self._writing.shutdown()
        self._reading.shutdown()
        if self._looking is not None:
            self._looking.close()
        self._engine.dispose()

    async def transaction(self, work: Callable[[Connection], T], *, durable: bool = False) -> T:
        """What `work` returns, in the writer's thread, once all that it wrote is committed. What it raises leaves no
        trace of it. Raises: `storage-failed`, `storage-full`, and what `work` raises.
        """
        if self._writer is None:
            raise ProblemError("unavailable")
        transaction = _Transaction(work, durable)
        self._queue.put_nowait(transaction)
        return await transaction.done

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, in a reader's thread; all that it reads is of one moment. Raises: `storage-failed`, and
        what `work` raises.
        """
        if self._writer is None:
            raise ProblemError("unavailable")
        try:
            return await _in(self._reading, lambda: self._read(work))
        except DBAPIError as error:
            raise _problem(error) from None

    async def look(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, which finds a few rows by their keys with one statement, on the event loop: to hand that
        to a thread takes three times as long as it does, and nobody who reads waits for who writes. Raises as `read`.
        """
        if self._writer is None or self._looking is None:
            raise ProblemError("unavailable")
        try:
            return work(self._looking)
        except DBAPIError as error:
            raise _problem(error) from None

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._engine.connect() as connection:
            return work(connection)

    async def _write_all(self) -> None:
        with await _in(self._writing, self._writers.connect) as connection:
            while (first := await self._queue.get()) is not None:
                group, last = [first], False
                while len(group) < MAX_GROUP and not self._queue.empty():
                    following = self._queue.get_nowait()
                    if following is None:
                        last = True
                        break
                    group.append(following)
                await _in(self._writing, partial(self._commit, connection, group))
                for transaction in group:
                    transaction.finish()
                if last:
                    return

    def _commit(self, connection: Connection, group: list[_Transaction[Any]]) -> None:
        """Notes in each what became of it. What one raised may rest on the writes of those before it, so that is told
        only when these are committed.
        """
        level = "FULL" if any(transaction.durable for transaction in group) else "NORMAL"
        try:
            driver = _driver(connection)
            driver.execute(f"PRAGMA synchronous={level}")
            with connection.begin():
                for transaction in group:
                    _run(connection, driver, transaction)
            self.commits += 1
        except (DBAPIError, sqlite3.Error) as error:
            # Locked, full, read-only: it would meet each alone too, and each would wait as long for the lock.
            problem = _problem(error)
            for transaction in group:
                transaction.error = problem
        except Exception as error:  # the writer outlives every defect
            for transaction in group:
                transaction.error = error


def _run(connection: Connection, driver: sqlite3.Connection, transaction: _Transaction[Any]) -> None:
    """Does it in a savepoint. Raises what ends the whole group."""
    driver.execute("SAVEPOINT work")
    try:
        transaction.result = transaction.work(connection)
    except Exception as error:
        if not driver.in_transaction:
            raise  # a full disk, say: SQLite has rolled the group back
        driver.execute("ROLLBACK TO work")
        transaction.error = _problem(error) if isinstance(error, DBAPIError) else error
    driver.execute("RELEASE work")


def copy_database(source: Path, target: Path) -> None:
    """A database as it is at one moment, its log included, while others write to it. Raises: `storage-failed`,
    `storage-full`.
    """
    try:
        # URIs, since sqlite3 would make a database where none is.
        with (
            contextlib.closing(sqlite3.connect(f"{source.resolve().as_uri()}?mode=rw", uri=True)) as given,
            contextlib.closing(sqlite3.connect(target)) as made,
        ):
            target.chmod(0o600)
            given.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            given.backup(made)
    except sqlite3.Error as error:
        raise _problem(error) from None


def upsert(connection: Connection, table: Table) -> sqlite.Insert:
    """An insert in the connection's dialect, which can say what happens where there is such a row already."""
    return upsert_in(connection.dialect.name, table)


def upsert_in(dialect: str, table: Table) -> sqlite.Insert:
    """The same for statements that are built once for each dialect: to build one takes longer than to execute it."""
    return {"sqlite": sqlite.insert}[dialect](table)


async def _in(threads: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, function)


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # else pysqlite begins and commits by itself, and no savepoint holds
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={BUSY_TIMEOUT_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    begins = connection.get_execution_options().get(_BEGIN, "BEGIN")
    if begins:
        connection.exec_driver_sql(begins)


def _problem(error: DBAPIError | sqlite3.Error) -> ProblemError:
    text = str(error.orig if isinstance(error, DBAPIError) else error)
    reason = "storage-full" if "full" in text else "storage-failed"
    _log.error("database", reason=reason, error=text)
    return ProblemError(reason, retry_after_s=5)
