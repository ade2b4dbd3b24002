"""Webhooks: whom the coordinator tells of events, and how far each has been told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from thinwire.protocol.fields import EventKind
from thinwire.protocol.reasons import ProblemError

from .database import Database
from .leases import Lease, fence
from .tables import events, leases, webhooks


@dataclass(frozen=True, slots=True)
class WebhookRow:
    """`secret`: what signs the messages, 32 bytes. `run`: its name, None for all. `last`: the id of the last event that
    was taken; `failures`: in a row since then, `said` why, and it is tried again at `next_at`, Unix seconds.
    """

    id: str
    url: str
    secret: bytes
    kinds: Sequence[EventKind]
    run: str | None
    last: int
    failures: int = 0
    said: str | None = None
    next_at: float | None = None


class Webhooks:
    """Every verb raises `storage-failed`, and those that write `storage-full`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, name: str, url: str, secret: bytes, kinds: Sequence[EventKind], run: str | None, *, most: int, now: float
    ) -> WebhookRow:
        """A new one, of what happens from now on. Raises: `too-many-requests`: there are `most` already."""

        def work(connection: Connection) -> WebhookRow:
            if connection.execute(select(func.count()).select_from(webhooks)).scalar_one() >= most:
                raise ProblemError("too-many-requests", f"there are {most} webhooks: remove one that nobody needs")
            last = connection.execute(select(func.coalesce(func.max(events.c.id), 0))).scalar_one()
            row = {"id": name, "url": url, "secret": secret, "kinds": ",".join(kinds), "run": run, "created_at": now}
            connection.execute(insert(webhooks), {**row, "last": last, "failures": 0})
            return WebhookRow(name, url, secret, kinds, run, last)

        return await self._database.transaction(work, durable=True)

    async def all(self) -> list[WebhookRow]:
        """The oldest first."""
        query = select(webhooks).order_by(webhooks.c.created_at, webhooks.c.id)
        return await self._database.read(lambda connection: [_row(row) for row in connection.execute(query)])

    async def get(self, name: str) -> WebhookRow:
        """Raises: `webhook-not-found`."""
        query = select(webhooks).where(webhooks.c.id == name)
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        if row is None:
            raise ProblemError("webhook-not-found")
        return _row(row)

    async def remove(self, name: str) -> None:
        """It is told no more. Raises: `webhook-not-found`."""

        def work(connection: Connection) -> None:
            if connection.execute(delete(webhooks).where(webhooks.c.id == name)).rowcount != 1:
                raise ProblemError("webhook-not-found")
            connection.execute(delete(leases).where(leases.c.run == name))

        await self._database.transaction(work, durable=True)

    async def took(self, lease: Lease, last: int) -> None:
        """It has been told of everything up to this event. Raises: `LeaseLostError`."""
        await self._note(lease, {"last": last, "failures": 0, "said": None, "next_at": None})

    async def failed(self, lease: Lease, last: int, failures: int, said: str, next_at: float) -> None:
        """It has been told up to `last` and did not take what follows. Raises: `LeaseLostError`."""
        await self._note(lease, {"last": last, "failures": failures, "said": said, "next_at": next_at})

    async def _note(self, lease: Lease, values: dict[str, Any]) -> None:
        def work(connection: Connection) -> None:
            fence(connection, lease)
            connection.execute(update(webhooks).where(webhooks.c.id == lease.run).values(values))

        await self._database.transaction(work)


def _row(row: Any) -> WebhookRow:
    kinds = row.kinds.split(",")
    return WebhookRow(row.id, row.url, row.secret, kinds, row.run, row.last, row.failures, row.said, row.next_at)
