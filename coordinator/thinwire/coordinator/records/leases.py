"""Leases: who leads a run, one at a time. Whoever has lost it writes nothing any more."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, or_, select

from .database import Database, upsert
from .tables import leases

_EPOCH = select(leases.c.epoch).where(leases.c.run == bindparam("lease_run")).with_for_update(read=True)


@dataclass(frozen=True, slots=True)
class Lease:
    """`epoch`: rises with every grant for the run, so that an older lease is known."""

    run: str
    holder: str
    epoch: int


class LeaseLostError(Exception):
    """Another leads the run now; what was to be written has not been."""

    def __init__(self, lease: Lease) -> None:
        super().__init__(f"{lease.holder} no longer leads the run {lease.run}: epoch {lease.epoch} is over")


class Leases:
    """Grants leases."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def acquire(self, run: str, holder: str, now: float, ttl_s: float | None) -> Lease | None:
        """The lease of this run, for `ttl_s` seconds; None while another holds it.

        `ttl_s` None: for as long as the process lives, of which there is one alone: such a lease is always granted
        again. Raises: `storage-failed`, `storage-full`.
        """

        def work(connection: Connection) -> Lease | None:
            new = upsert(connection, leases).values(
                run=run, holder=holder, epoch=1, until=None if ttl_s is None else now + ttl_s
            )
            taken = new.on_conflict_do_update(
                index_elements=["run"],
                set_={"holder": new.excluded.holder, "epoch": leases.c.epoch + 1, "until": new.excluded.until},
                where=or_(leases.c.until.is_(None), leases.c.until <= now, leases.c.holder == holder),
            )
            epoch = connection.execute(taken.returning(leases.c.epoch)).scalar_one_or_none()
            return None if epoch is None else Lease(run, holder, epoch)

        return await self._database.transaction(work)


def fence(connection: Connection, lease: Lease) -> None:
    """Lets only the newest lease pass, and keeps it the newest until the transaction ends. Raises: `LeaseLostError`."""
    if connection.execute(_EPOCH, {"lease_run": lease.run}).scalar_one_or_none() != lease.epoch:
        raise LeaseLostError(lease)
