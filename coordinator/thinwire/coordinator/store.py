"""The database: SQLite in WAL mode, one writer that commits in groups.

A write is committed when `write` returns: it survives the death of the process (synchronous=NORMAL), and with
`durable` also the death of the machine (FULL).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import alembic.command
import structlog
from alembic.config import Config
from sqlalchemy import Connection, Engine, Executable, Row, create_engine, event
from sqlalchemy.exc import DBAPIError, OperationalError

from thinwire.protocol.reasons import ProblemError

MAX_GROUP = 1000
"""Writes in one commit; measured: one row per commit 600/s, in groups 63,000/s."""
BUSY_TIMEOUT_MS = 5000
READERS = 4

T = TypeVar("T")
Statement = Executable | tuple[Executable, Sequence[dict[str, Any]]]
_log = structlog.get_logger("thinwire.coordinator")


@dataclass(slots=True)
class _Write:
    statements: Sequence[Statement]
    durable: bool
    done: asyncio.Future[None]


class Store:
    """`open` first, `close` last; everything else in between.

    A group of writes is one call in the writer's thread: handing over each statement costs more than it does.
    """

    def __init__(self, path: Path) -> None:
        self._engine: Engine = create_engine(f"sqlite:///{path}")
        event.listen(self._engine, "connect", _configure)
        self._queue: asyncio.Queue[_Write | None] = asyncio.Queue()
        self._writer: asyncio.Task[None] | None = None
        self._writing = ThreadPoolExecutor(1, "store-writer")
        self._reading = ThreadPoolExecutor(READERS, "store-reader")
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
        self._writer = asyncio.create_task(self._write_all(), name="store-writer")

    def _migrate(self) -> None:
        with self._engine.connect() as connection:
            _migrate(connection)
            connection.commit()

    async def close(self) -> None:
        """Commits what is queued and closes."""
        if self._writer is not None:
            self._queue.put_nowait(None)
            await self._writer
            self._writer = None
        self._end()

    def _end(self) -> None:
        self._writing.shutdown()
        self._reading.shutdown()
        self._engine.dispose()

    async def write(self, *statements: Statement, durable: bool = False) -> None:
        """Commits all statements or none. Raises: `storage-failed`, `storage-full`."""
        if self._writer is None:
            raise ProblemError("unavailable")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Write(statements, durable, done))
        await done

    async def read(self, query: Executable) -> Sequence[Row[Any]]:
        """All rows. Raises: `storage-failed`."""
        try:
            return await _in(self._reading, lambda: self._read(query))
        except DBAPIError as error:
            raise _problem(error) from None

    def _read(self, query: Executable) -> Sequence[Row[Any]]:
        with self._engine.connect() as connection:
            return connection.execute(query).all()

    async def _write_all(self) -> None:
        with await _in(self._writing, self._engine.connect) as connection:
            while (first := await self._queue.get()) is not None:
                group, last = [first], False
                while len(group) < MAX_GROUP and not self._queue.empty():
                    following = self._queue.get_nowait()
                    if following is None:
                        last = True
                        break
                    group.append(following)
                await self._commit(connection, group)
                if last:
                    return

    async def _commit(self, connection: Connection, group: list[_Write]) -> None:
        try:
            await _in(self._writing, lambda: self._transaction(connection, group))
        except OperationalError as error:
            # Locked, full, read-only: it would meet each write alone too, and each would wait as long for the lock.
            problem = _problem(error)
            for write in group:
                _finish(write, problem)
        except DBAPIError as error:
            if len(group) == 1:
                _finish(group[0], _problem(error))
                return
            # One bad write must not fail the others.
            for write in group:
                await self._commit(connection, [write])
        except Exception as error:  # the writer outlives every defect of a statement
            for write in group:
                _finish(write, error)
        else:
            for write in group:
                _finish(write, None)

    def _transaction(self, connection: Connection, group: list[_Write]) -> None:
        level = "FULL" if any(write.durable for write in group) else "NORMAL"
        try:
            connection.exec_driver_sql(f"PRAGMA synchronous={level}")
            for write in group:
                for statement in write.statements:
                    if isinstance(statement, tuple):
                        if statement[1]:
                            connection.execute(statement[0], statement[1])
                    else:
                        connection.execute(statement)
            connection.commit()
        except BaseException:
            connection.rollback()
            raise
        self.commits += 1


async def _in(threads: ThreadPoolExecutor, function: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(threads, function)


def _finish(write: _Write, error: Exception | None) -> None:
    if write.done.done():
        return
    if error is None:
        write.done.set_result(None)
    else:
        write.done.set_exception(error)


def _configure(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={BUSY_TIMEOUT_MS}"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _migrate(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    alembic.command.upgrade(config, "head")


def _problem(error: DBAPIError) -> ProblemError:
    reason = "storage-full" if "full" in str(error.orig) else "storage-failed"
    _log.error("database", reason=reason, error=str(error.orig))
    return ProblemError(reason, retry_after_s=5)
