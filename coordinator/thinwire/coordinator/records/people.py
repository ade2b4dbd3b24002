"""Clients as people look for them: a page of them, by name, by when they were heard, by what they have cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, Select, and_, func, select

from thinwire.protocol.bytes import Bytes
from thinwire.protocol.fields import Role

from .database import Database
from .ledger_rows import SUMS
from .tables import clients, exchanges, ledger, presence, runs, tasks

Order = Literal["name", "seen", "bytes", "group", "enrolled"]
_AT_WORK: Final = (
    select(runs.c.name)
    .join(tasks, tasks.c.run == runs.c.id)
    .join(exchanges, and_(exchanges.c.run == tasks.c.run, exchanges.c.exchange == tasks.c.exchange))
    .where(
        tasks.c.client == clients.c.name, tasks.c.state == "open", exchanges.c.closed.is_(False),
        runs.c.state == "running",
    )
    .limit(1)
    .scalar_subquery()
)  # fmt: skip
_COST: Final = (
    select(func.coalesce(func.sum(ledger.c.uplink_payload_bytes + ledger.c.uplink_framing_bytes
                                  + ledger.c.downlink_payload_bytes + ledger.c.downlink_framing_bytes), 0))
    .where(ledger.c.client == clients.c.name)
    .scalar_subquery()
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Person:
    """`works_for`: the run whose task it has. `parked`: its poll waits; `gone`: the connection of its poll has died.
    Times in Unix seconds.
    """

    name: str
    group: str
    role: Role
    enrolled_at: float
    revoked_at: float | None
    seen_at: float | None
    parked: bool
    gone: bool
    works_for: str | None
    spent: Bytes


class People:
    """Reads alone. Every verb raises `storage-failed`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, about: str, order: Order, first: int, most: int, *, backwards: bool, revoked: bool
    ) -> tuple[int, list[Person]]:
        """How many there are whose name or group has this text in it, and some of them from the place `first` on.
        `revoked`: those that are shut out, too.
        """
        chosen: list[ColumnElement[bool]] = [] if revoked else [clients.c.revoked_at.is_(None)]
        if about:
            chosen.append(clients.c.name.contains(about, autoescape=True) | (clients.c["group"] == about))
        keys: dict[Order, ColumnElement[Any]] = {
            "name": clients.c.name, "seen": func.coalesce(presence.c.seen_at, 0.0), "bytes": _COST,
            "group": clients.c["group"], "enrolled": clients.c.enrolled_at,
        }  # fmt: skip
        key = keys[order].desc() if backwards else keys[order]
        query: Select[Any] = (
            select(
                clients.c.name, clients.c["group"], clients.c.role, clients.c.enrolled_at, clients.c.revoked_at,
                presence.c.seen_at, presence.c.parked, presence.c.gone, _AT_WORK,
            )
            .outerjoin(presence, presence.c.client == clients.c.name)
            .where(*chosen)
            .order_by(key, clients.c.name)
            .offset(first)
            .limit(most)
        )  # fmt: skip

        def work(connection: Connection) -> tuple[int, list[Person]]:
            count = connection.execute(select(func.count()).select_from(clients).where(*chosen)).scalar_one()
            rows = connection.execute(query).all()
            spent = select(ledger.c.client, *SUMS).where(ledger.c.client.in_([row.name for row in rows]))
            costs = {row[0]: Bytes(*row[1:]) for row in connection.execute(spent.group_by(ledger.c.client))}
            return count, [_person(row, costs.get(row.name, Bytes())) for row in rows]

        return await self._database.read(work)

    async def latest(self, most: int) -> list[tuple[float, str, str]]:
        """Who has come or been shut out last: when, who, and `enrolled` or `revoked`."""
        came = select(clients.c.enrolled_at, clients.c.name).order_by(clients.c.enrolled_at.desc()).limit(most)
        went = (
            select(clients.c.revoked_at, clients.c.name)
            .where(clients.c.revoked_at.is_not(None))
            .order_by(clients.c.revoked_at.desc())
            .limit(most)
        )

        def work(connection: Connection) -> list[tuple[float, str, str]]:
            both = [(at, name, "enrolled") for at, name in connection.execute(came)]
            return both + [(at, name, "revoked") for at, name in connection.execute(went)]

        return await self._database.read(work)


def _person(row: Any, spent: Bytes) -> Person:
    name, group, role, enrolled_at, revoked_at, seen_at, parked, gone, works_for = row
    return Person(name, group, role, enrolled_at, revoked_at, seen_at, bool(parked), bool(gone), works_for, spent)
