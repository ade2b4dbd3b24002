"""What a kind of database does in its own way; the rest is `Database`."""

from __future__ import annotations

from typing import Any, Final, Protocol

import structlog
from sqlalchemy import ColumnElement, Connection, Engine, Float, literal_column
from sqlalchemy.exc import DBAPIError

from thinwire.protocol.reasons import ProblemError

BEGIN: Final = "thinwire_begin"
"""The execution option of a connection that says how its transactions begin; empty: each statement is one."""
_log = structlog.get_logger("thinwire.coordinator")


class Kind(Protocol):
    """`place`: how people are told of it, without a secret. `errors`: what its driver raises, wrapped or not.
    `readers`: reads at a time. `looks_at_once`: a look at a few rows takes less than to hand it to a thread, and never
    waits. `is_shared`: others may write to it at the same time.
    """

    place: str
    errors: tuple[type[Exception], ...]
    readers: int
    looks_at_once: bool
    is_shared: bool
    engine: Engine
    writers: Engine
    """Its transactions come one after the other, whoever begins them."""
    migrators: Engine

    def is_new(self) -> bool:
        """Whether it has no tables yet. Raises: DBAPIError."""
        ...

    def settle(self, connection: Connection) -> None:
        """What is to be done after the tables have been migrated, in the same transaction."""
        ...

    def prepare(self, connection: Connection, *, durable: bool) -> None:
        """Before a group of transactions begins."""
        ...

    def token(self, connection: Connection) -> str:
        """Of the transaction that has begun: what to ask by whether it was committed."""
        ...

    def committed(self, connection: Connection, token: str) -> bool:
        """Whether it was, after the connection was lost while it was being committed."""
        ...

    def is_lost(self, driver: Any) -> bool:
        """Whether the connection is worth nothing any more."""
        ...

    def goes_on(self, driver: Any) -> bool:
        """Whether the transaction is still there after a statement of it has failed."""
        ...

    def reason(self, error: Exception) -> str:
        """`storage-full` or `storage-failed`."""
        ...


def problem_of(kind: Kind, error: Exception) -> ProblemError:
    """What a failed statement is to whoever asked for it; the operator's log has the rest."""
    text = str(error.orig if isinstance(error, DBAPIError) else error)
    reason = kind.reason(error)
    _log.error("database", reason=reason, error=text)
    return ProblemError(reason, retry_after_s=5)


def database_time(connection: Connection) -> ColumnElement[float]:
    """Unix seconds by the database's clock, which all who share it agree on."""
    seconds = "extract(epoch from clock_timestamp())"
    if connection.dialect.name == "sqlite":
        seconds = "(julianday('now') - 2440587.5) * 86400.0"
    return literal_column(seconds, Float)
