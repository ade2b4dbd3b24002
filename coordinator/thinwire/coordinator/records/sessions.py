"""Who is logged in at the pages: a cookie stands for a token, for so long."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, delete, insert, select

from .database import Database
from .tables import sessions

_FIND: Final = select(sessions.c.token_hash).where(
    sessions.c.hash == bindparam("cookie"), sessions.c.expires_at > bindparam("now")
)


class Sessions:
    """Secrets by their SHA-256, times in Unix seconds. Every verb raises `storage-failed`, and those that write
    `storage-full`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(self, cookie: bytes, token: bytes, now: float, expires_at: float) -> None:
        """This cookie stands for this token; what has expired is forgotten."""
        row = {"hash": cookie, "token_hash": token, "created_at": now, "expires_at": expires_at}

        def work(connection: Connection) -> None:
            connection.execute(delete(sessions).where(sessions.c.expires_at <= now))
            connection.execute(insert(sessions).values(row))

        await self._database.transaction(work)

    async def find(self, cookie: bytes, now: float) -> bytes | None:
        """The token that the cookie stands for."""
        wanted = {"cookie": cookie, "now": now}
        return await self._database.look(lambda connection: connection.execute(_FIND, wanted).scalar_one_or_none())

    async def end(self, cookie: bytes) -> None:
        """The cookie stands for nothing any more."""
        gone = delete(sessions).where(sessions.c.hash == cookie)
        await self._database.transaction(lambda connection: connection.execute(gone) and None)
