"""PostgreSQL: one database for all replicas, which write to it one after the other."""

from __future__ import annotations

import time
from typing import Any, Final

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError

from thinwire.protocol.reasons import ProblemError

from .kind import BEGIN
from .tables import metadata

LOCK: Final = 0x7468696E77697265
"""The advisory lock that every transaction which writes holds."""
LOCK_TIMEOUT_MS: Final = 5000
FROZEN_MS: Final = 2000
"""A process that says nothing for so long while it holds the lock is taken for frozen: its transaction is undone."""
MIGRATION_MS: Final = 600_000
SETTLED_S: Final = 5.0
"""A server that has lost its client ends what that was doing within this time."""
_CONNECT: Final = {
    "connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
    "tcp_user_timeout": 10_000, "application_name": "thinwire", "prepare_threshold": None,
}  # fmt: skip
_READING: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_FULL: Final = ("53100", "53400")  # disk_full, configuration_limit_exceeded
_OTHERWISE_SORTED: Final = text(
    "SELECT c.table_name, c.column_name, c.character_maximum_length FROM information_schema.columns c"
    " WHERE c.table_schema = current_schema() AND c.data_type = 'character varying' AND c.table_name = ANY(:tables)"
    " AND c.collation_name IS DISTINCT FROM 'C'"
)


def _writing(lock_ms: int, frozen_ms: int) -> str:
    return (
        f"BEGIN; SET LOCAL lock_timeout = {lock_ms}; SET LOCAL idle_in_transaction_session_timeout = {frozen_ms};"
        f" SELECT pg_advisory_xact_lock({LOCK})"
    )


class Postgres:
    """See `Kind`. Every commit is on the server's disk before it is told, as its settings have it."""

    errors: tuple[type[Exception], ...] = (psycopg.Error, DBAPIError)
    readers = 8
    looks_at_once = False
    is_shared = True

    def __init__(self, url: str) -> None:
        self.url = url
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise ProblemError("storage-failed", "the database's URL cannot be read") from None
        self.place = parsed.render_as_string(hide_password=True)
        self.engine: Engine = create_engine(
            parsed.set(drivername="postgresql+psycopg"),
            connect_args=_CONNECT,
            pool_size=self.readers + 2,
            execution_options={BEGIN: _READING},
        )
        event.listen(self.engine, "connect", _configure)
        event.listen(self.engine, "begin", _begin)
        self.writers: Engine = self.engine.execution_options(**{BEGIN: _writing(LOCK_TIMEOUT_MS, FROZEN_MS)})
        self.migrators: Engine = self.engine.execution_options(**{BEGIN: _writing(MIGRATION_MS, 0)})

    def is_new(self) -> bool:
        with self.engine.connect() as connection:
            return not inspect(connection).has_table("clients")

    def settle(self, connection: Connection) -> None:
        """Text is sorted by its bytes, as everywhere else, whatever the database was made for."""
        tables = {"tables": [table.name for table in metadata.sorted_tables]}
        for table, column, length in connection.execute(_OTHERWISE_SORTED, tables).all():
            change = f'ALTER TABLE "{table}" ALTER COLUMN "{column}" TYPE VARCHAR({length}) COLLATE "C"'
            connection.execute(text(change))

    def prepare(self, connection: Connection, *, durable: bool) -> None:
        """Nothing."""

    def token(self, connection: Connection) -> str:
        return str(connection.exec_driver_sql("SELECT pg_current_xact_id()::text").scalar_one())

    def committed(self, connection: Connection, token: str) -> bool:
        ask, until = "SELECT pg_xact_status(%s::text::xid8)", time.monotonic() + SETTLED_S
        while (status := connection.exec_driver_sql(ask, (token,)).scalar_one()) == "in progress":
            if time.monotonic() > until:
                return False
            time.sleep(0.05)
        return bool(status == "committed")

    def is_lost(self, driver: psycopg.Connection[Any]) -> bool:
        return driver.closed

    def goes_on(self, driver: psycopg.Connection[Any]) -> bool:
        return not driver.closed

    def reason(self, error: Exception) -> str:
        cause = getattr(error, "orig", error)
        return "storage-full" if getattr(cause, "sqlstate", None) in _FULL else "storage-failed"


def _configure(connection: psycopg.Connection[Any], _record: object) -> None:
    connection.autocommit = True  # transactions begin as their execution option says


def _begin(connection: Connection) -> None:
    begins = connection.get_execution_options()[BEGIN]
    if begins:
        # Without parameters, so that these are one message.
        connection.exec_driver_sql(begins, execution_options={"no_parameters": True})
