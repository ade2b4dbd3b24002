"""Logging in at the pages: a token is shown once, a cookie stands for it from then on."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Final

from thinwire.coordinator.records.sessions import Sessions as SessionRows
from thinwire.coordinator.wire.identity import hash_of

LASTS_S: Final = 7 * 86_400.0
"""From logging in."""


class Sessions:
    """The cookie is worth as much as the token, for as long as that is worth anything, and no longer than `LASTS_S`.
    `clock`: Unix seconds.
    """

    def __init__(self, rows: SessionRows, clock: Callable[[], float] = time.time) -> None:
        self._rows = rows
        self._clock = clock

    async def begin(self, token_hash: bytes) -> str:
        """A new cookie for the token with this hash. Raises: `storage-failed`, `storage-full`."""
        cookie, now = secrets.token_urlsafe(32), self._clock()
        await self._rows.begin(hash_of(cookie), token_hash, now, now + LASTS_S)
        return cookie

    async def token_of(self, cookie_hash: bytes) -> bytes | None:
        """The hash of the token that the cookie with this hash stands for. Raises: `storage-failed`."""
        return await self._rows.find(cookie_hash, self._clock())

    async def end(self, cookie: str) -> None:
        """The cookie is worth nothing from now on. Raises: `storage-failed`, `storage-full`."""
        await self._rows.end(hash_of(cookie))
