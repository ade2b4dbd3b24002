"""The ASGI middleware above the meter: opens an `Account` for each request, charges it at its end and meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .accounting import ACCOUNT, Account
from .meter import METER, Meter

MEANWHILE_S: Final = 0.5
"""How often open requests are charged: what a process forgets that dies is what they carried since."""


class Charging:
    """Outermost middleware: everything inside it is charged, errors included.

    Without a meter in the scope (an application that is called without a socket) nothing is charged.
    """

    def __init__(self, app: ASGIApp, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        self._open: dict[Meter, int] = {}
        self._timer: asyncio.TimerHandle | None = None

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
                meter.charge(bill, self._clock() - began)

        with meter.request(account) as bill:
            self._enter(meter)
            try:
                await self._app(scope, receive, send_and_charge)
            finally:
                self._leave(meter)
                if not charged:
                    meter.charge(bill, self._clock() - began)

    def _enter(self, meter: Meter) -> None:
        self._open[meter] = self._open.get(meter, 0) + 1
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(MEANWHILE_S, self._meanwhile)

    def _leave(self, meter: Meter) -> None:
        self._open[meter] -= 1
        if not self._open[meter]:
            del self._open[meter]

    def _meanwhile(self) -> None:
        """One timer for all of them; none while nothing is open."""
        self._timer = None
        for meter in self._open:
            meter.charge_open()
        if self._open:
            self._timer = asyncio.get_running_loop().call_later(MEANWHILE_S, self._meanwhile)
