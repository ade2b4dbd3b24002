"""Invites: so many clients may enrol with one, by the hash of its code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, insert, or_, select, update

from thinwire.protocol.fields import Role
from thinwire.protocol.reasons import ProblemError

from .database import Database
from .tables import invites

SHORT_DIGITS: Final = 8
"""So many hexadecimal digits of its hash name an invite to the operator."""
_ALL: Final = select(
    invites.c.code_hash, invites.c.group, invites.c.role, invites.c.uses_left, invites.c.expires_at
).order_by(invites.c.code_hash)


@dataclass(frozen=True, slots=True)
class Issued:
    """`uses_left`: how many more clients may enrol; `expires_at`: Unix seconds, None for never.

    One that is used up stays until it expires: a client whose answer was lost asks again with it.
    """

    code_hash: bytes
    group: str
    role: Role
    uses_left: int
    expires_at: float | None

    @property
    def digits(self) -> str:
        """What names it to the operator."""
        return self.code_hash.hex()[:SHORT_DIGITS]


class Invites:
    """Every change survives the death of the machine before it is told. Every verb raises `storage-failed`, and those
    that write `storage-full`; then nothing has changed, and the same can be asked again.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def issue(self, code_hash: bytes, group: str, role: Role, uses: int, expires_at: float | None) -> Issued:
        """A new invite."""
        row = {"code_hash": code_hash, "group": group, "role": role, "uses_left": uses, "expires_at": expires_at}
        statement = insert(invites).values(row)
        await self._database.transaction(lambda connection: connection.execute(statement) and None, durable=True)
        return Issued(code_hash, group, role, uses, expires_at)

    async def list(self, now: float) -> list[Issued]:
        """All that have not expired at `now`, Unix seconds; used-up ones too."""
        query = _ALL.where(or_(invites.c.expires_at.is_(None), invites.c.expires_at > now))
        return await self._database.read(lambda connection: [Issued(*row) for row in connection.execute(query)])

    async def void(self, code_hash: bytes | str) -> bool:
        """Nobody enrols any more with this invite, named by its hash or the first digits of that; whether there was
        one. Raises: `bad-request`: too few digits to say which.
        """

        def work(connection: Connection) -> bool:
            if isinstance(code_hash, bytes):
                return delete_invite(connection, code_hash)
            known = list(connection.scalars(select(invites.c.code_hash)))
            meant = [one for one in known if one.hex().startswith(code_hash.lower())]
            if len(code_hash) < SHORT_DIGITS or len(meant) > 1:
                raise ProblemError("bad-request", f"an invite is named by its first {SHORT_DIGITS} digits or more")
            return bool(meant) and delete_invite(connection, meant[0])

        return await self._database.transaction(work, durable=True)

    async def sweep(self, now: float) -> None:
        """Deletes what has expired at `now`, Unix seconds."""
        expired = delete(invites).where(invites.c.expires_at <= now)
        await self._database.transaction(lambda connection: connection.execute(expired) and None)


def find_invite(connection: Connection, code_hash: bytes, now: float) -> Issued:
    """The invite, used up or not. Raises: `invite-invalid`."""
    row = connection.execute(_ALL.where(invites.c.code_hash == code_hash)).one_or_none()
    issued = None if row is None else Issued(*row)
    if issued is None or (issued.expires_at is not None and issued.expires_at <= now):
        raise ProblemError("invite-invalid")
    return issued


def spend_invite(connection: Connection, code_hash: bytes) -> None:
    """Uses it once. Raises: `invite-invalid` (used up)."""
    left = update(invites).where(invites.c.code_hash == code_hash, invites.c.uses_left > 0)
    if connection.execute(left.values(uses_left=invites.c.uses_left - 1)).rowcount != 1:
        raise ProblemError("invite-invalid", "the invite is used up")


def delete_invite(connection: Connection, code_hash: bytes) -> bool:
    """Whether there was one."""
    return connection.execute(delete(invites).where(invites.c.code_hash == code_hash)).rowcount == 1
