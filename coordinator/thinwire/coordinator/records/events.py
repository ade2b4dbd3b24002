"""Events of runs, numbered, so that whoever has seen some can go on behind them."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from thinwire.protocol.fields import EventKind

from .database import Database
from .prepared import Prepared
from .tables import events

_ADD = Prepared(insert(events))
_AFTER_ANY = (
    select(events.c.id, events.c.run, events.c.kind, events.c.exchange, events.c.answers, events.c.at)
    .where(events.c.id > bindparam("last"))
    .order_by(events.c.id)
    .limit(bindparam("most"))
)
_AFTER = Prepared(_AFTER_ANY.where(events.c.run == bindparam("of_run")))


@dataclass(frozen=True, slots=True)
class Event:
    """`id`: rises over all runs and is never used again. `answers`: how many count, where `kind` is answer. `at`: Unix
    seconds.
    """

    id: int
    run: str
    kind: EventKind
    exchange: int | None
    answers: int | None
    at: float


class Events:
    """Reads events; they are written with what they tell of, by `add_event`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def after(self, run: str, last: int, limit: int) -> list[Event]:
        """At most `limit` of the run's events above the id `last`, rising. Raises: `storage-failed`."""
        wanted = {"of_run": run, "last": last, "most": limit}
        return await self._database.look(lambda connection: [Event(*row) for row in _AFTER.all(connection, wanted)])

    async def after_any(self, last: int, limit: int) -> list[Event]:
        """The same, of all runs: no id is left out. Raises: `storage-failed`."""
        wanted = {"last": last, "most": limit}
        return await self._database.look(
            lambda connection: [Event(*row) for row in connection.execute(_AFTER_ANY, wanted)]
        )

    async def last_id(self, run: str | None = None) -> int:
        """Of the newest event of the run, or of all runs; 0 where there is none. Raises: `storage-failed`."""
        query = select(func.coalesce(func.max(events.c.id), 0))
        if run is not None:
            query = query.where(events.c.run == run)
        return await self._database.read(lambda connection: connection.execute(query).scalar_one())

    async def sweep(self, before: float) -> None:
        """Deletes what is older than this, in Unix seconds. Raises: `storage-failed`, `storage-full`."""
        old = delete(events).where(events.c.at < before)
        await self._database.transaction(lambda connection: connection.execute(old) and None)


def add_event(
    connection: Connection,
    run: str,
    kind: EventKind,
    now: float,
    *,
    exchange: int | None = None,
    answers: int | None = None,
) -> None:
    """What has changed, in the transaction that changes it."""
    _ADD.change(connection, {"run": run, "kind": kind, "exchange": exchange, "answers": answers, "at": now})
