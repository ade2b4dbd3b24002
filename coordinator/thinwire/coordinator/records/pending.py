"""Devices that wait to be let in: so many at most, by the hash of the invite that each has drawn for itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from thinwire.protocol.fields import Role
from thinwire.protocol.reasons import ProblemError

from .database import Database
from .invites import delete_invite
from .tables import clients, invites, pending

LAPSES_S: Final = 900.0
"""Whoever has not asked again for so long waits no more; a device asks again each ten minutes or sooner."""
LONGEST_S: Final = 86_400.0
"""From the first time it asked; also for how long one that was refused is told so."""
SHARE_OF_ADDRESS: Final = 5
"""One address may hold one part in so many of the list."""
_ALL: Final = select(
    pending.c.code, pending.c.name, pending.c.says, pending.c.address, pending.c.asked_at, pending.c.heard_at,
    pending.c.invite_hash,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Waiting:
    """A device that waits. Times in Unix seconds."""

    code: str
    name: str
    says: str
    address: str
    asked_at: float
    heard_at: float
    invite_hash: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """What has come of a device's request: `code` while it is pending, else None."""

    accepted: bool
    code: str | None = None
    is_new: bool = False


class Pending:
    """Every verb raises `storage-failed`, and those that write `storage-full`; then nothing has changed, and the same
    can be asked again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def standing(self, invite_hash: bytes, now: float) -> Standing | None:
        """What has come of this device's request; None where there is none, or it has lapsed."""
        return await self._database.read(lambda connection: _standing(connection, invite_hash, now))

    async def ask(
        self, invite_hash: bytes, code: str, name: str, says: str, address: str, now: float, most: int
    ) -> Standing:
        """What has come of this device's request, which is noted: under `code` where it is new. A row that is lost with
        the machine is asked for again, so nothing waits for the disk.

        Raises: `too-many-requests`: `most` wait already, or a fifth of so many from this address.
        """

        def work(connection: Connection) -> Standing:
            connection.execute(delete(pending).where(or_(*_lapsed(now))))
            found = _standing(connection, invite_hash, now)
            said = {"name": name, "says": says, "address": address, "heard_at": now}
            if found is not None:
                connection.execute(update(pending).where(pending.c.invite_hash == invite_hash).values(said))
                return found
            of_address = func.count().filter(pending.c.address == address)
            everybody, from_here = connection.execute(select(func.count(), of_address).select_from(pending)).one()
            if everybody >= most or from_here >= max(1, most // SHARE_OF_ADDRESS):
                raise ProblemError("too-many-requests", "too many devices wait to be let in", retry_after_s=LAPSES_S)
            row = {"invite_hash": invite_hash, "code": code, "asked_at": now, "refused": False, **said}
            connection.execute(insert(pending).values(row))
            return Standing(accepted=False, code=code, is_new=True)

        return await self._database.transaction(work)

    async def list(self, now: float) -> list[Waiting]:
        """Who waits at `now`, the longest waiting first."""
        query = _ALL.where(pending.c.refused.is_(False), ~or_(*_lapsed(now))).order_by(
            pending.c.asked_at, pending.c.code
        )
        return await self._database.read(lambda connection: [Waiting(*row) for row in connection.execute(query)])

    async def accept(self, code: str, group: str, role: Role, now: float) -> Waiting:
        """The device's own invite is in force: for one use, within a day. Raises: `not-found`, `name-taken`."""

        def work(connection: Connection) -> Waiting:
            found = _find(connection, code, now)
            taken = select(clients.c.name).where(clients.c.name == found.name, clients.c.revoked_at.is_(None))
            if connection.scalar(taken) is not None:
                detail = f"a client named {found.name} is there: revoke it, or let the device ask with another --name"
                raise ProblemError("name-taken", detail)
            delete_invite(connection, found.invite_hash)  # one that it has let expire
            made = {"code_hash": found.invite_hash, "group": group, "role": role, "uses_left": 1}
            connection.execute(insert(invites).values(**made, expires_at=now + LONGEST_S))
            connection.execute(delete(pending).where(pending.c.code == code))
            return found

        return await self._database.transaction(work, durable=True)

    async def refuse(self, code: str, now: float) -> Waiting:
        """The device is told that it is not let in, and is on the list no more. Raises: `not-found`."""

        def work(connection: Connection) -> Waiting:
            found = _find(connection, code, now)
            connection.execute(update(pending).where(pending.c.code == code).values(refused=True, heard_at=now))
            return found

        return await self._database.transaction(work, durable=True)


def _lapsed(now: float) -> tuple[ColumnElement[bool], ...]:
    lapses = pending.c.refused.is_(False) & (pending.c.heard_at <= now - LAPSES_S)
    return lapses, pending.c.asked_at <= now - LONGEST_S


def _standing(connection: Connection, invite_hash: bytes, now: float) -> Standing | None:
    """An invite of this hash can only be one that was accepted: nobody else has drawn it."""
    lasts = or_(invites.c.expires_at.is_(None), invites.c.expires_at > now)
    in_force = select(invites.c.code_hash).where(invites.c.code_hash == invite_hash, lasts)
    if connection.scalar(in_force) is not None:
        return Standing(accepted=True)
    mine = select(pending.c.code, pending.c.refused).where(pending.c.invite_hash == invite_hash)
    row = connection.execute(mine.where(~or_(*_lapsed(now)))).one_or_none()
    return None if row is None else Standing(accepted=False, code=None if row.refused else row.code)


def _find(connection: Connection, code: str, now: float) -> Waiting:
    wanted = _ALL.where(pending.c.code == code, pending.c.refused.is_(False), ~or_(*_lapsed(now)))
    row = connection.execute(wanted).one_or_none()
    if row is None:
        raise ProblemError("not-found", "no device waits under this code: ask for the one that it shows now")
    return Waiting(*row)
