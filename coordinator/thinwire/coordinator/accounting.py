"""The ASGI middleware between meter and ledger: opens an `Account` for a request and charges it at its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .ledger import Account, Ledger
from .metering import METER, Meter

ACCOUNT: Final = "thinwire.account"
"""The key of the request's `Account` in the ASGI scope."""


class Accounting:
    """Outermost middleware: everything inside it is charged, errors included.

    Without a meter in the scope (an application that is called without a socket) nothing is charged.
    """

    def __init__(self, app: ASGIApp, ledger: Ledger, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._ledger = ledger
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
                meter.charge(self._ledger, account, self._clock() - began)

        with meter.request(self._ledger), self._ledger.while_open(account, meter.uncharged):
            try:
                await self._app(scope, receive, send_and_charge)
            finally:
                if not charged:
                    meter.charge(self._ledger, account, self._clock() - began)


def account_of(request: HTTPConnection) -> Account:
    """The account of this request, for its endpoint to fill in."""
    account: Account = request.scope[ACCOUNT]
    return account
