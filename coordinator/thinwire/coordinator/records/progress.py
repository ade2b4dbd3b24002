"""How far runs have come, many at once: the latest of their exchanges, and what they have cost."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from thinwire.protocol.bytes import Bytes

from .database import Database
from .ledger_rows import SUMS
from .tables import events, exchanges, ledger


@dataclass(frozen=True, slots=True)
class Point:
    """A closed exchange, as far as a curve cares."""

    exchange: int
    round: int
    kind: str
    metrics: Mapping[str, float]


class Progress:
    """Reads alone. Every verb raises `storage-failed`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def curves(self, runs: Collection[str], most: int) -> dict[str, list[Point]]:
        """The latest closed exchanges of each of these runs, in order."""

        def work(connection: Connection) -> dict[str, list[Point]]:
            found = {}
            for run in runs:
                query = (
                    select(exchanges.c.exchange, exchanges.c.round, exchanges.c.kind, exchanges.c.metrics)
                    .where(exchanges.c.run == run, exchanges.c.closed)
                    .order_by(exchanges.c.exchange.desc())
                    .limit(most)
                )
                found[run] = [Point(*row) for row in connection.execute(query)][::-1]
            return found

        return await self._database.read(work)

    async def spent(self, runs: Collection[str]) -> dict[str, Bytes]:
        """What has been stored of the bytes of these runs; those of clients that belong to no run left out."""
        query = select(ledger.c.run, *SUMS).where(ledger.c.run.in_(runs)).group_by(ledger.c.run)
        return await self._database.read(
            lambda connection: {row[0]: Bytes(*row[1:]) for row in connection.execute(query)}
        )

    async def changed_at(self, runs: Collection[str]) -> dict[str, float]:
        """When the state of each of these runs was last told, Unix seconds."""
        query = (
            select(events.c.run, func.max(events.c.at))
            .where(events.c.run.in_(runs), events.c.kind == "run")
            .group_by(events.c.run)
        )
        return await self._database.read(lambda connection: {row[0]: row[1] for row in connection.execute(query)})

    async def newest_at(self) -> float | None:
        """When the newest event of any run was, Unix seconds."""
        query = select(events.c.at).order_by(events.c.id.desc()).limit(1)
        return await self._database.read(lambda connection: connection.execute(query).scalar_one_or_none())

    async def latest_closed(
        self, most: int, run: str | None = None, before: float | None = None
    ) -> list[tuple[str, int, float]]:
        """The exchanges of all runs, or of one, that were closed last, before this time: run, exchange, when."""
        query = (
            select(exchanges.c.run, exchanges.c.exchange, exchanges.c.closed_at)
            .where(exchanges.c.closed, exchanges.c.closed_at.is_not(None))
            .order_by(exchanges.c.closed_at.desc())
            .limit(most)
        )
        if run is not None:
            query = query.where(exchanges.c.run == run)
        if before is not None:
            query = query.where(exchanges.c.closed_at < before)
        return await self._database.read(
            lambda connection: [(row[0], row[1], row[2]) for row in connection.execute(query)]
        )
