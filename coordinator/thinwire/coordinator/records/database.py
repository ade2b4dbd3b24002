"""The database: one writer that commits in groups, whatever kind it is of.

What a transaction wrote is committed when it returns: it survives the death of the process, and with `durable` also
the death of the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import Connection, Engine, RootTransaction, Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from thinwire.machine.workers import Workers
from thinwire.protocol.reasons import ProblemError

from .kind import BEGIN, Kind, problem_of
from .migrating import migrate
from .sqlite import SQLite
from .transaction import Transaction

if TYPE_CHECKING:
    from sqlalchemy.dialects import postgresql

MAX_GROUP = 1000
"""Transactions in one commit; measured: one row per commit 600/s, in groups 25,000/s."""
SCHEMES: Final = ("postgresql://", "postgres://")

T = TypeVar("T")


def kind_of(place: Path | str) -> Kind:
    """The kind of the database at this path (SQLite) or URL (PostgreSQL). Raises: `storage-failed`: what is needed for
    it is not installed, or nothing is known of it.
    """
    if isinstance(place, Path):
        return SQLite(place)
    if not place.startswith(SCHEMES):
        raise ProblemError("storage-failed", f"a database's URL begins with {SCHEMES[0]}")
    try:
        from .postgres import Postgres
    except ImportError as error:
        raise ProblemError("storage-failed", f"pip install 'thinwire[postgres]' ({error})") from None
    return Postgres(place.replace("postgres://", "postgresql://", 1))


class Database:
    """`open` first, `close` last; everything else in between. `commits`: how many groups have been committed.

    A group is one call in the writer's thread: handing over each transaction costs more than it does. Each sees what
    those before it in its group wrote, and is a savepoint where it is not alone.
    """

    def __init__(self, place: Path | str) -> None:
        self.kind = kind_of(place)
        self._queue: asyncio.Queue[Transaction[Any] | None] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None
        self._writing = Workers(1, "database-writer")
        self._reading = Workers(self.kind.readers, "database-reader")
        # Each statement of these is a moment of its own.
        self._lookers = self.kind.engine.execution_options(**{BEGIN: ""})
        self._looking: Connection | None = None
        self._connection: Connection | None = None
        self._in_doubt = False
        self.commits = 0

    @property
    def place(self) -> str:
        """Where it is, as people are told."""
        return self.kind.place

    @property
    def is_shared(self) -> bool:
        """Whether others may write to it at the same time."""
        return self.kind.is_shared

    def is_new(self) -> bool:
        """Whether it has no tables yet; in a thread. Raises: `storage-failed`."""
        try:
            return self.kind.is_new()
        except DBAPIError as error:
            raise self._cannot_be_opened(error) from None

    async def open(self) -> None:
        """Migrates the database to the newest tables and starts the writer. Raises: `storage-failed`."""
        try:
            await self._writing.run(self._migrate)
        except self.kind.errors as error:
            self._end()
            raise self._cannot_be_opened(error) from None
        if self.kind.looks_at_once:
            self._looking = self._lookers.connect()
        self._writer = asyncio.create_task(self._write_all(), name="database-writer")

    def _cannot_be_opened(self, error: Exception) -> ProblemError:
        cause = error.orig if isinstance(error, DBAPIError) else error
        return ProblemError(problem_of(self.kind, error).reason, f"the database {self.place}: {cause}")

    def _migrate(self) -> None:
        # Whoever else begins at this moment waits for the lock of all writers, and finds it done.
        with self.kind.migrators.begin() as connection:
            migrate(connection)
            self.kind.settle(connection)

    async def close(self) -> None:
        """Commits what is queued and closes."""
        writer, self._writer = self._writer, None
        if writer is not None:
            self._queue.put_nowait(None)
            await writer
        self._end()

    def _end(self) -> None:
        self._writing.close()
        self._reading.close()
        for connection in (self._looking, self._connection):
            if connection is not None:
                connection.close()
        self.kind.engine.dispose()

    async def transaction(self, work: Callable[[Connection], T], *, durable: bool = False) -> T:
        """What `work` returns, in the writer's thread, once all that it wrote is committed. What it raises leaves no
        trace of it. Raises: `storage-failed`, `storage-full`, and what `work` raises.
        """
        if self._writer is None:
            raise ProblemError("unavailable")
        transaction = Transaction(work, durable)
        self._queue.put_nowait(transaction)
        return await transaction.done

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, in a reader's thread; all that it reads is of one moment. Raises: `storage-failed`, and
        what `work` raises.
        """
        return await self._read(partial(self._read_with, self.kind.engine, work))

    async def look(self, work: Callable[[Connection], T]) -> T:
        """What `work` returns, which finds a few rows by their keys with one statement. With SQLite on the event loop:
        to hand that to a thread takes three times as long as it does, and nobody who reads waits for who writes. Raises
        as `read`.
        """
        if not self.kind.looks_at_once:
            return await self._read(partial(self._read_with, self._lookers, work))
        if self._writer is None or self._looking is None:
            raise ProblemError("unavailable")
        try:
            return work(self._looking)
        except self.kind.errors as error:
            raise problem_of(self.kind, error) from None

    async def _read(self, work: Callable[[], T]) -> T:
        if self._writer is None:
            raise ProblemError("unavailable")
        try:
            return await self._reading.run(work)
        except self.kind.errors as error:
            raise problem_of(self.kind, error) from None

    def _read_with(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        try:
            with engine.connect() as connection:
                return work(connection)
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
        with engine.connect() as connection:  # the one before was cut while nobody used it
            return work(connection)

    async def _write_all(self) -> None:
        while (first := await self._queue.get()) is not None:
            group, last = [first], False
            while len(group) < MAX_GROUP and not self._queue.empty():
                following = self._queue.get_nowait()
                if following is None:
                    last = True
                    break
                group.append(following)
            await self._writing.run(self._commit, group)
            for transaction in group:
                transaction.finish()
            if last:
                return

    # -- in the writer's thread -------------------------------------------------------------------------------

    def _commit(self, group: list[Transaction[Any]]) -> None:
        """Notes in each what became of it. What one raised may rest on the writes of those before it, so that is told
        only when these are committed.
        """
        try:
            self._commit_group(group)
            self.commits += 1
        except self.kind.errors as error:
            # Locked, full, read-only, cut: it would meet each alone too, and each would wait as long for the lock.
            problem = problem_of(self.kind, error)
            for transaction in group:
                transaction.error = problem
        except Exception as error:  # the writer outlives every defect
            for transaction in group:
                transaction.error = error

    def _commit_group(self, group: list[Transaction[Any]]) -> None:
        try:
            self._try(group)
        except self.kind.errors:
            if self._connection is not None or self._in_doubt:
                raise
            # Cut before the commit: nothing is written, and all of it can be done again.
            for transaction in group:
                transaction.result = transaction.error = None
            self._try(group)

    def _try(self, group: list[Transaction[Any]]) -> None:
        self._in_doubt = False
        try:
            connection, whole = self._begin(any(transaction.durable for transaction in group))
        except self.kind.errors:
            self._drop_lost()
            raise
        try:
            token, driver = self.kind.token(connection), connection.connection.driver_connection
            # Over a network a savepoint's release finds out that the connection is lost while nothing is in doubt yet.
            if len(group) == 1 and not self.kind.is_shared:
                group[0].result = group[0].work(connection)
            else:
                for transaction in group:
                    self._run(connection, driver, transaction)
        except BaseException:
            self._undo(whole)
            raise
        try:
            self._in_doubt = True
            whole.commit()
        except self.kind.errors:
            self._undo(whole)
            if not token or self._connection is not None or not self._was_committed(token):
                raise

    def _begin(self, durable: bool) -> tuple[Connection, RootTransaction]:
        connection = self._connection
        if connection is None:
            connection = self._connection = self.kind.writers.connect()
        self.kind.prepare(connection, durable=durable)
        return connection, connection.begin()

    def _undo(self, whole: RootTransaction) -> None:
        with contextlib.suppress(*self.kind.errors):
            whole.rollback()
        self._drop_lost()

    def _drop_lost(self) -> bool:
        """Where the connection is lost, the next group makes another. Whether it was."""
        connection = self._connection
        if connection is None or not (
            connection.invalidated or self.kind.is_lost(connection.connection.driver_connection)
        ):
            return False
        self._connection = None
        with contextlib.suppress(*self.kind.errors):
            connection.invalidate()
            connection.close()
        return True

    def _was_committed(self, token: str) -> bool:
        """Asked over another connection, after the first one broke in the moment of the commit."""
        with self._lookers.connect() as connection:
            return self.kind.committed(connection, token)

    def _run(self, connection: Connection, driver: Any, transaction: Transaction[Any]) -> None:
        """Does it in a savepoint. Raises what ends the whole group."""
        driver.execute("SAVEPOINT work")
        try:
            transaction.result = transaction.work(connection)
        except Exception as error:
            if not self.kind.goes_on(driver):
                raise
            driver.execute("ROLLBACK TO work")
            transaction.error = problem_of(self.kind, error) if isinstance(error, self.kind.errors) else error
        driver.execute("RELEASE work")


def upsert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    """An insert in the connection's dialect, which can say what happens where there is such a row already."""
    return upsert_in(connection.dialect.name, table)


def upsert_in(dialect: str, table: Table) -> sqlite.Insert | postgresql.Insert:
    """The same for statements that are built once for each dialect: to build one takes longer than to execute it."""
    if dialect == "sqlite":
        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)
