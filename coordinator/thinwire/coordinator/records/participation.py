"""Who took part in exchanges, who did not, and why: tasks with their answers and when their clients were heard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, and_, case, func, or_, select, true, tuple_

from thinwire.coordinator.runs.exchange import SlotState

from .carried import counted_in
from .database import Database
from .tables import answers, clients, ledger, presence, tasks

_MOST_NAMES: Final = 500
"""In one statement."""
_DOWN: Final = ("plan", "payload")
_UP: Final = ("answer", "evaluate")


@dataclass(frozen=True, slots=True)
class Missing:
    """A client that was asked and whose answer does not count. `answered`: it has arrived and is being checked.
    `seen_at`: when the client was last heard, Unix seconds, None for never; `revoked`: it is shut out.
    """

    exchange: int
    client: str
    state: SlotState
    reason: str | None
    detail: str | None
    answered: bool
    seen_at: float | None
    revoked: bool


@dataclass(frozen=True, slots=True)
class Effort:
    """How a client spent its time in an exchange. `arrived_at`: its answer, Unix seconds, None where there is none.
    `metrics`: what the answer said; `download_s`, `upload_s`: seconds that its requests took.
    """

    client: str
    state: SlotState
    arrived_at: float | None
    metrics: Mapping[str, float]
    download_s: float
    upload_s: float


class Participation:
    """Reads alone. Every verb raises `storage-failed`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def asked(self, run: str, first: int, last: int) -> dict[int, int]:
        """How many clients each of these exchanges has asked."""
        count = func.count(tasks.c.client.distinct())
        query = select(tasks.c.exchange, count).where(_between(run, first, last)).group_by(tasks.c.exchange)
        return await self._database.read(lambda connection: {row[0]: row[1] for row in connection.execute(query)})

    async def came(self, run: str, first: int, last: int, oldest: int) -> dict[int, list[tuple[str, int]]]:
        """Whose answers count in each of these exchanges, to tasks of the exchanges from `oldest` on, and by how many
        exchanges they are older; by that, then by name.
        """
        counts = and_(_between(run, oldest, last), tasks.c.state == "accepted", counted_in >= first)
        query = select(counted_in, tasks.c.client, counted_in - tasks.c.exchange).where(counts)

        def work(connection: Connection) -> dict[int, list[tuple[str, int]]]:
            found: dict[int, list[tuple[str, int]]] = {}
            for exchange, client, age in connection.execute(
                query.order_by(counted_in - tasks.c.exchange, tasks.c.client)
            ):
                found.setdefault(exchange, []).append((client, age))
            return found

        return await self._database.read(work)

    async def missing(self, run: str, first: int, last: int, most: int, *, trouble: bool = False) -> list[Missing]:
        """Who was asked in these exchanges and does not count, by exchange and name; a client's newest task tells.
        `trouble`: its newest one that was declined or refused.
        """
        chosen = or_(tasks.c.state == "refused", tasks.c.reason == "declined") if trouble else true()
        query = (
            select(
                tasks.c.exchange, tasks.c.client, tasks.c.state, tasks.c.reason, tasks.c.detail,
                answers.c.task.is_not(None), presence.c.seen_at, clients.c.revoked_at.is_not(None),
            )
            .outerjoin(answers, answers.c.task == tasks.c.id)
            .outerjoin(presence, presence.c.client == tasks.c.client)
            .outerjoin(clients, clients.c.name == tasks.c.client)
            .where(_between(run, first, last), tasks.c.state != "accepted", chosen)
            .order_by(tasks.c.exchange.desc(), tasks.c.client, tasks.c.offer)
            .limit(most)
        )  # fmt: skip

        def work(connection: Connection) -> list[Missing]:
            rows = [Missing(*row) for row in connection.execute(query)]
            # One that was asked again may count by another task.
            names = {row.client for row in rows}
            pairs = select(tasks.c.exchange, tasks.c.client).where(
                _between(run, first, last), tasks.c.state == "accepted"
            )
            if len(names) <= _MOST_NAMES:
                pairs = pairs.where(tasks.c.client.in_(names))
            counted = {(row[0], row[1]) for row in connection.execute(pairs)} if rows else set()
            return [row for row in rows if (row.exchange, row.client) not in counted]

        rows = await self._database.read(work)
        newest = {(row.exchange, row.client): row for row in rows}
        return sorted(newest.values(), key=lambda row: (row.exchange, row.client))

    async def counted(self, run: str, exchange: int) -> set[str]:
        """The clients whose answers to this exchange count."""
        here = and_(tasks.c.run == run, tasks.c.exchange == exchange, tasks.c.state == "accepted")
        return await self._database.read(lambda connection: set(connection.scalars(select(tasks.c.client).where(here))))

    async def efforts(self, run: str, exchange: int, most: int) -> list[Effort]:
        """Whose tasks of this exchange took how long, those without an answer first, then the latest answers first."""
        here = and_(tasks.c.run == run, tasks.c.exchange == exchange)
        told = select(tasks.c.client, tasks.c.state, answers.c.arrived_at, answers.c.metrics)
        latest = (answers.c.arrived_at.is_not(None), answers.c.arrived_at.desc(), tasks.c.client)
        joined = told.outerjoin(answers, answers.c.task == tasks.c.id).where(here, _newest(run, exchange))
        spent: Select[Any] = (
            select(ledger.c.client, _seconds(_DOWN), _seconds(_UP))
            .where(ledger.c.run == run, ledger.c.exchange == exchange)
            .group_by(ledger.c.client)
        )

        def work(connection: Any) -> tuple[Sequence[Any], Mapping[str, tuple[float, float]]]:
            rows = connection.execute(joined.order_by(*latest).limit(most)).all()
            return rows, {row[0]: (row[1], row[2]) for row in connection.execute(spent)}

        rows, seconds = await self._database.read(work)
        return [Effort(row[0], row[1], row[2], row[3] or {}, *seconds.get(row[0], (0.0, 0.0))) for row in rows]


def _between(run: str, first: int, last: int) -> ColumnElement[bool]:
    return and_(tasks.c.run == run, tasks.c.exchange >= first, tasks.c.exchange <= last)


def _newest(run: str, exchange: int) -> ColumnElement[bool]:
    """Of each client its newest task of the exchange."""
    every = tasks.alias()
    newest = select(every.c.client, func.max(every.c.offer)).where(every.c.run == run, every.c.exchange == exchange)
    return tuple_(tasks.c.client, tasks.c.offer).in_(newest.group_by(every.c.client))


def _seconds(kinds: Sequence[str]) -> ColumnElement[float]:
    return func.coalesce(func.sum(case((ledger.c.kind.in_(kinds), ledger.c.seconds), else_=0.0)), 0.0)
