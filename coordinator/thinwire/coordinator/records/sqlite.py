"""SQLite in WAL mode: one file, one writer."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import cast

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

from .kind import BEGIN, problem_of

BUSY_TIMEOUT_MS = 5000
_DURABLE = "durable"
"""What a connection's `synchronous` was set for last."""


class SQLite:
    """See `Kind`. What is committed survives the death of the process (synchronous=NORMAL), and with `durable` also the
    death of the machine (FULL).
    """

    errors: tuple[type[Exception], ...] = (sqlite3.Error, DBAPIError)
    readers = 4
    looks_at_once = True
    is_shared = False

    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path = path
        self.engine: Engine = create_engine(f"sqlite:///{path}", execution_options={BEGIN: "BEGIN"})
        event.listen(self.engine, "connect", _configure)
        event.listen(self.engine, "begin", _begin)
        # A writer takes its lock first: one that has read before would wait for another in vain.
        self.writers: Engine = self.engine.execution_options(**{BEGIN: "BEGIN IMMEDIATE"})
        self.migrators: Engine = self.writers

    def is_new(self) -> bool:
        return not self._path.exists()

    def settle(self, connection: Connection) -> None:
        """Nothing."""

    def prepare(self, connection: Connection, *, durable: bool) -> None:
        if connection.info.get(_DURABLE) is not durable:
            _driver(connection).execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            connection.info[_DURABLE] = durable

    def token(self, connection: Connection) -> str:
        return ""

    def committed(self, connection: Connection, token: str) -> bool:
        return False

    def is_lost(self, driver: sqlite3.Connection) -> bool:
        return False

    def goes_on(self, driver: sqlite3.Connection) -> bool:
        return driver.in_transaction  # a full disk, say: SQLite has rolled it back

    def reason(self, error: Exception) -> str:
        return "storage-full" if "full" in str(error) else "storage-failed"


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
        raise problem_of(SQLite(source), error) from None


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)


def _configure(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # else pysqlite begins and commits by itself, and no savepoint holds
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", f"busy_timeout={BUSY_TIMEOUT_MS}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(connection: Connection) -> None:
    begins = connection.get_execution_options()[BEGIN]
    if begins:
        _driver(connection).execute(begins)
