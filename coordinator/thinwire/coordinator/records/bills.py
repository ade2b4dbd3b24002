"""What the wire has cost, by client and kind, and day by day."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Executable, and_, func, or_, select

from thinwire.coordinator.runs.budget import DAY_S
from thinwire.coordinator.wire.accounting import Key
from thinwire.protocol.bytes import Bytes

from .database import Database, upsert_in
from .ledger_rows import SUMS, idle_of
from .tables import ledger, ledger_days

_days: Final = ledger_days.alias()
_SUM: Final = func.sum(ledger_days.c.uplink_bytes + ledger_days.c.downlink_bytes)


class Bills:
    """Reads alone: what has been stored. Every verb raises `storage-failed`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def rows(self, run: str | None) -> dict[tuple[str, str], Bytes]:
        """By client and kind, of all that ever crossed; or of a run, and what its clients cost without one, as its
        ledger shows it.
        """
        query = select(ledger.c.client, ledger.c.kind, *SUMS).group_by(ledger.c.client, ledger.c.kind)
        if run is not None:
            query = query.where(or_(ledger.c.run == run, idle_of(run)))
        return await self._database.read(
            lambda connection: {(row[0], row[1]): Bytes(*row[2:]) for row in connection.execute(query)}
        )

    async def days(self, run: str | None, since: int) -> dict[int, int]:
        """Wire bytes by day, in days since 1970, from this one on; of all, or of a run and its clients without one."""
        query = select(ledger_days.c.day, _SUM).where(ledger_days.c.day >= since).group_by(ledger_days.c.day)
        if run is not None:
            members = select(_days.c.client).where(_days.c.run == run, _days.c.client != "")
            idle = and_(ledger_days.c.run == "", ledger_days.c.client.in_(members))
            query = query.where(or_(ledger_days.c.run == run, idle))
        return await self._database.read(lambda connection: {row[0]: int(row[1]) for row in connection.execute(query)})

    async def days_of(self, run: str, since: int) -> dict[str, dict[int, int]]:
        """Client -> day -> wire bytes of a run, from this day on, in days since 1970."""
        spent = ledger_days.c.uplink_bytes + ledger_days.c.downlink_bytes
        query = select(ledger_days.c.client, ledger_days.c.day, spent)

        def work(connection: Connection) -> dict[str, dict[int, int]]:
            found: defaultdict[str, dict[int, int]] = defaultdict(dict)
            for client, day, carried in connection.execute(
                query.where(ledger_days.c.run == run, ledger_days.c.day >= since)
            ):
                found[client][day] = carried
            return dict(found)

        return await self._database.read(work)

    async def day_of(self, clients: Collection[str], day: int) -> dict[str, int]:
        """Wire bytes of these clients on this day."""
        query = (
            select(ledger_days.c.client, _SUM)
            .where(ledger_days.c.client.in_(clients), ledger_days.c.day == day)
            .group_by(ledger_days.c.client)
        )
        return await self._database.read(lambda connection: {row[0]: int(row[1]) for row in connection.execute(query)})


def add_to_day(connection: Connection, fresh: Iterable[tuple[Key, Bytes]], now: float) -> None:
    """What the ledger's rows grow by, added to the day. `now`: Unix seconds."""
    sums: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for (run, client, _, _), value in fresh:
        sums[run, client][0] += value.uplink
        sums[run, client][1] += value.downlink
    day = int(now // DAY_S)
    rows: list[dict[str, Any]] = [
        {"day": day, "run": run, "client": client, "uplink_bytes": up, "downlink_bytes": down}
        for (run, client), (up, down) in sums.items()
    ]
    if rows:
        connection.execute(_adding(connection.dialect.name), rows)


@cache
def _adding(dialect: str) -> Executable:
    new = upsert_in(dialect, ledger_days)
    counts = (ledger_days.c.uplink_bytes, ledger_days.c.downlink_bytes)
    return new.on_conflict_do_update(
        index_elements=["day", "run", "client"], set_={one.name: one + new.excluded[one.name] for one in counts}
    )
