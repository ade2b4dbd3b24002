"""The ASGI middleware that tells what operators change, or try to: every request of theirs that could."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from starlette.requests import HTTPConnection, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .addresses import address_of
from .identity import asker

DETAIL: Final = "thinwire.detail"
"""The key of what the path does not say of a change, in the ASGI scope."""
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_LONGEST_PATH: Final = 500
_LONGEST_DETAIL: Final = 1000


class Tell(Protocol):
    """What is told: `at` in Unix seconds, `who` a client's name or "", the answer's status."""

    def __call__(
        self, *, at: float, who: str, address: str, method: str, path: str, status: int, detail: str | None
    ) -> Awaitable[None]: ...


class Auditing:
    """Inside `Identity`. `tell` is called behind the answer; what it raises is for its own to say."""

    def __init__(self, app: ASGIApp, tell: Tell, clock: Callable[[], float] = time.time) -> None:
        self._app = app
        self._tell = tell
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in SAFE:
            await self._app(scope, receive, send)
            return
        status = 500

        async def send_and_see(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_see)
        finally:
            request = Request(scope)
            who = asker(request)
            if who.operates:
                detail = scope.get(DETAIL)
                await self._tell(
                    at=self._clock(),
                    who="" if who.caller is None else who.caller.name,
                    address=address_of(scope),
                    method=scope["method"],
                    path=scope["path"][:_LONGEST_PATH],
                    status=status,
                    detail=None if detail is None else str(detail)[:_LONGEST_DETAIL],
                )


def tell_detail(request: HTTPConnection, detail: str) -> None:
    """What the path does not say of the change that this request asks for."""
    request.scope[DETAIL] = detail
