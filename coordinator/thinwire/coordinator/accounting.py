"""The ASGI middleware between meter and ledger: opens an `Account` for a request and charges it at its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

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
        began = self._clock()
        with meter.request():
            try:
                await self._app(scope, receive, send)
            finally:
                meter.charge(self._ledger, account, self._clock() - began)


def account_of(request: HTTPConnection) -> Account:
    """The account of this request, for its endpoint to fill in."""
    account: Account = request.scope[ACCOUNT]
    return account
