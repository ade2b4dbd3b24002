"""Leases: who leads a run, one at a time. Whoever has lost it writes nothing any more."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, bindparam, delete, or_, select, update

from .database import Database, upsert
from .kind import database_time
from .prepared import Prepared
from .tables import leases, presence, replicas, runs

_EPOCH = Prepared(select(leases.c.epoch).where(leases.c.run == bindparam("lease_run")).with_for_update(read=True))


@dataclass(frozen=True, slots=True)
class Lease:
    """`epoch`: rises with every grant for the run, so that an older lease is known. `ends`: it has to be renewed, and
    another may hold one while this holder still believes in its own.
    """

    run: str
    holder: str
    epoch: int
    ends: bool = False

    @property
    def mark(self) -> int | None:
        """What tells this leader's checkpoints from those that another may write at the same time."""
        return self.epoch if self.ends else None


class LeaseLostError(Exception):
    """Another leads the run now; what was to be written has not been."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(f"{lease.holder} no longer leads the run {lease.run}: epoch {lease.epoch} is over")


class Leases:
    """Grants leases, by the database's clock. Every verb raises `storage-failed`, and those that write
    `storage-full`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(self, run: str, holder: str, ttl_s: float | None) -> Lease | None:
        """The lease of this run, for `ttl_s` seconds; None while another holds it.

        `ttl_s` None: for as long as the process lives, of which there is one alone: such a lease is always granted
        again.
        """

        def work(connection: Connection) -> Lease | None:
            now = database_time(connection)
            new = upsert(connection, leases).values(
                run=run, holder=holder, epoch=1, until=None if ttl_s is None else now + ttl_s
            )
            taken = new.on_conflict_do_update(
                index_elements=["run"],
                set_={"holder": new.excluded.holder, "epoch": leases.c.epoch + 1, "until": new.excluded.until},
                where=or_(leases.c.until.is_(None), leases.c.until <= now, leases.c.holder == holder),
            )
            epoch = connection.execute(taken.returning(leases.c.epoch)).scalar_one_or_none()
            return None if epoch is None else Lease(run, holder, epoch, ends=ttl_s is not None)

        return await self._database.transaction(work)

    async def free(self) -> list[str]:
        """The runs that somebody has to lead and nobody does, the oldest first."""

        def work(connection: Connection) -> list[str]:
            over = or_(leases.c.run.is_(None), leases.c.until.is_(None), leases.c.until <= database_time(connection))
            query = (
                select(runs.c.id).outerjoin(leases, leases.c.run == runs.c.id).where(runs.c.state != "finished", over)
            )
            return list(connection.scalars(query.order_by(runs.c.created_at, runs.c.id)))

        return await self._database.look(work)

    async def beat(self, holder: str, ttl_s: float) -> dict[str, int]:
        """This coordinator lives, for so many seconds: run -> epoch of the leases that it still holds, which go on for
        as long. Of those that live no more no poll waits.
        """

        def work(connection: Connection) -> dict[str, int]:
            until = database_time(connection) + ttl_s
            new = upsert(connection, replicas).values(name=holder, until=until)
            connection.execute(new.on_conflict_do_update(index_elements=["name"], set_={"until": new.excluded.until}))
            _bury(connection, replicas.c.until <= database_time(connection))
            mine = update(leases).where(leases.c.holder == holder, leases.c.until.is_not(None)).values(until=until)
            held = connection.execute(mine.returning(leases.c.run, leases.c.epoch)).all()
            return {row.run: row.epoch for row in held}

        return await self._database.transaction(work)

    async def leave(self, holder: str) -> None:
        """This coordinator ends: others may lead at once what it led."""

        def work(connection: Connection) -> None:
            connection.execute(
                update(leases).where(leases.c.holder == holder, leases.c.until.is_not(None)).values(until=0)
            )
            _bury(connection, replicas.c.name == holder)

        await self._database.transaction(work)


def _bury(connection: Connection, which: ColumnElement[bool]) -> None:
    """Forgets these coordinators: the polls that waited there wait no more. Whose they were may still be heard of."""
    for name in connection.scalars(delete(replicas).where(which).returning(replicas.c.name)).all():
        waited = update(presence).where(presence.c.holder == name, presence.c.parked)
        connection.execute(waited.values(parked=False))


def fence(connection: Connection, lease: Lease) -> None:
    """Lets only the newest lease pass, and keeps it the newest until the transaction ends. Raises: `LeaseLostError`."""
    if _EPOCH.scalar(connection, {"lease_run": lease.run}) != lease.epoch:
        raise LeaseLostError(lease)
