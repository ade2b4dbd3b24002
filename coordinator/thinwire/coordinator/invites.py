"""Invites: in memory, so that taking one is one step that nothing can come between; stored hashed."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, insert, select, update

from thinwire.protocol.fields import Role
from thinwire.protocol.reasons import ProblemError

from . import tables
from .store import Statement, Store


@dataclass(slots=True)
class Issued:
    """`uses_left`: how many more clients may enrol; `expires_at`: Unix seconds, None for never."""

    group: str
    role: Role
    uses_left: int
    expires_at: float | None


class Invites:
    """All invites that have not expired. Those used up stay: a client whose answer was lost asks again with one."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._issued: dict[bytes, Issued] = {}

    async def load(self, now: float) -> None:
        """Forgets the expired ones. `now`: Unix seconds."""
        table = tables.invites
        await self._store.write(delete(table).where(table.c.expires_at < now))
        for row in await self._store.read(select(table)):
            self._issued[row.code_hash] = Issued(row.group, row.role, row.uses_left, row.expires_at)

    async def add(self, code_hash: bytes, issued: Issued) -> None:
        values = {"group": issued.group, "role": issued.role, "uses_left": issued.uses_left}
        row = {"code_hash": code_hash, **values, "expires_at": issued.expires_at}
        await self._store.write(insert(tables.invites).values(**row))
        self._issued[code_hash] = issued

    def find(self, code_hash: bytes, now: float) -> Issued:
        """Raises: `invite-invalid`."""
        found = self._issued.get(code_hash)
        if found is None or (found.expires_at is not None and found.expires_at <= now):
            raise ProblemError("invite-invalid")
        return found

    def spend(self, code_hash: bytes, issued: Issued) -> Statement:
        """Uses it once, in memory; the statement does so in the database. Raises: `invite-invalid` (used up)."""
        if issued.uses_left < 1:
            raise ProblemError("invite-invalid", "the invite is used up")
        issued.uses_left -= 1
        table = tables.invites
        return update(table).where(table.c.code_hash == code_hash).values(uses_left=table.c.uses_left - 1)

    async def void(self, code_hash: bytes) -> None:
        """Nobody enrols with it any more."""
        if self._issued.pop(code_hash, None) is not None:
            await self._store.write(delete(tables.invites).where(tables.invites.c.code_hash == code_hash))
