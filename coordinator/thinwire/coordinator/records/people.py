"""Clients as people look for them: a page of them, by name, by when they were heard, by what they have cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, Connection, Select, and_, func, or_, select

from thinwire.protocol.bytes import Bytes
from thinwire.protocol.fields import Role
from thinwire.protocol.messages import LedgerKind

from .database import Database
from .ledger_rows import SUMS
from .tables import clients, exchanges, ledger, presence, runs, tasks

Order = Literal["name", "seen", "bytes", "group", "enrolled", "version", "breaks"]
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


_PEOPLE: Final[Select[Any]] = select(
    clients.c.name, clients.c.label, clients.c["group"], clients.c.role, clients.c.enrolled_at, clients.c.revoked_at,
    presence.c.seen_at, presence.c.parked, presence.c.gone, _AT_WORK, presence.c.breaks, presence.c.software,
).outerjoin(presence, presence.c.client == clients.c.name)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Person:
    """`label`: what people call it, where that is not its name. `works_for`: the run whose task it has. `parked`: its
    poll waits; `gone`: the connection of its poll has died; `breaks`: how often its last connection ended; `software`:
    its version. Times in Unix seconds.
    """

    name: str
    label: str | None
    group: str
    role: Role
    enrolled_at: float
    revoked_at: float | None
    seen_at: float | None
    parked: bool
    gone: bool
    works_for: str | None
    breaks: int
    software: str | None
    spent: Bytes


@dataclass(frozen=True, slots=True)
class Turn:
    """A task that a client had, the newest of an exchange. `state`: open, accepted, refused, late; `round`: of its
    exchange; `opened_at`: Unix seconds.
    """

    run: str
    exchange: int
    round: int
    kind: str
    state: str
    why: str
    opened_at: float | None


class People:
    """Reads alone. Every verb raises `storage-failed`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(
        self, about: str, order: Order, first: int, most: int, *, backwards: bool, revoked: bool
    ) -> tuple[int, list[Person]]:
        """How many there are whose name or group has this text in it, and some of them from the place `first` on.
        `revoked`: those that are shut out, too. Who was deleted is in no page.
        """
        shown = clients.c.deleted_at if revoked else clients.c.revoked_at
        chosen: list[ColumnElement[bool]] = [shown.is_(None)]
        if about:
            named = (clients.c.name.contains(about, autoescape=True), clients.c.label.contains(about, autoescape=True))
            chosen.append(or_(*named, clients.c["group"] == about))
        keys: dict[Order, ColumnElement[Any]] = {
            "name": func.coalesce(clients.c.label, clients.c.name),
            "seen": func.coalesce(presence.c.seen_at, 0.0), "bytes": _COST,
            "group": clients.c["group"], "enrolled": clients.c.enrolled_at,
            "version": func.coalesce(presence.c.software, ""), "breaks": func.coalesce(presence.c.breaks, 0),
        }  # fmt: skip
        key = keys[order].desc() if backwards else keys[order]
        query = _PEOPLE.where(*chosen).order_by(key, clients.c.name).offset(first).limit(most)

        def work(connection: Connection) -> tuple[int, list[Person]]:
            count = connection.execute(select(func.count()).select_from(clients).where(*chosen)).scalar_one()
            return count, _persons(connection, query)

        return await self._database.read(work)

    async def one(self, name: str) -> Person | None:
        """The client of this name."""
        query = _PEOPLE.where(clients.c.name == name, clients.c.deleted_at.is_(None))
        found = await self._database.read(lambda connection: _persons(connection, query))
        return found[0] if found else None

    async def kinds(self, name: str) -> dict[LedgerKind, Bytes]:
        """What this client has cost, by kind."""
        query = select(ledger.c.kind, *SUMS).where(ledger.c.client == name).group_by(ledger.c.kind)
        return await self._database.read(
            lambda connection: {row[0]: Bytes(*row[1:]) for row in connection.execute(query.order_by(ledger.c.kind))}
        )

    async def turns(self, name: str, most: int) -> list[Turn]:
        """Its latest tasks, the newest first."""
        query = (
            select(
                runs.c.name, tasks.c.exchange, exchanges.c.round, exchanges.c.kind, tasks.c.state, tasks.c.reason,
                tasks.c.detail, exchanges.c.opened_at,
            )
            .join(runs, runs.c.id == tasks.c.run)
            .join(exchanges, and_(exchanges.c.run == tasks.c.run, exchanges.c.exchange == tasks.c.exchange))
            .where(tasks.c.client == name)
            .order_by(exchanges.c.opened_at.desc(), tasks.c.exchange.desc(), tasks.c.offer.desc())
            .limit(most)
        )  # fmt: skip

        def work(connection: Connection) -> list[Turn]:
            rows = connection.execute(query).all()
            return [Turn(*row[:5], row.detail or row.reason or "", row.opened_at) for row in rows]

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


def _persons(connection: Connection, query: Select[Any]) -> list[Person]:
    rows = connection.execute(query).all()
    spent = select(ledger.c.client, *SUMS).where(ledger.c.client.in_([row.name for row in rows]))
    costs = {row[0]: Bytes(*row[1:]) for row in connection.execute(spent.group_by(ledger.c.client))}
    return [_person(row, costs.get(row.name, Bytes())) for row in rows]


def _person(row: Any, spent: Bytes) -> Person:
    name, label, group, role, came, went, seen, parked, gone, works_for, breaks, software = row
    there = bool(parked), bool(gone)
    return Person(name, label, group, role, came, went, seen, *there, works_for, breaks or 0, software, spent)
