"""The ASGI middleware above the meter: opens an `Account` for each request and charges it at its end."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .accounting import ACCOUNT, Account
from .meter import METER, Meter


class Charging:
    """Outermost middleware: everything inside it is charged, errors included.

    Without a meter in the scope (an application that is called without a socket) nothing is charged.
    """

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        account = scope[ACCOUNT] = Account()
        meter: Meter | None = scope.get(METER)
        if meter is None:
            await self._app(scope, receive, send)
            return
        began, charged = self._clock(), False

        async def send_and_charge(message: Message) -> None:
            nonlocal charged
            await send(message)
            # At once: what an application does after its last byte may overlap with the connection's next request.
            if not charged and message["type"] == "http.response.body" and not message.get("more_body", False):
                charged = True
                meter.charge(account, self._clock() - began)

        with meter.request(account):
            try:
                await self._app(scope, receive, send_and_charge)
            finally:
                if not charged:
                    meter.charge(account, self._clock() - began)
