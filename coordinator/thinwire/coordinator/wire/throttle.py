"""How often a peer may ask: requests per client and per address, and failures to prove who one is per address.

Counted in fixed windows by the library `limits`, in memory, and checked before anything of a request is read.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from thinwire.protocol.reasons import ProblemError

from .addresses import Proxies, address_of
from .identity import asker
from .problems import problem_response

WINDOW_S: Final = 10
"""Of requests: a short burst may exceed the rate. Of failures it is a minute."""
_FEW: Final = 1024
_SHOWN_INSIDE: Final = (("POST", "/v1/clients"), ("POST", "/v1/pending"), ("POST", "/login"))
"""Requests that bring an invite, its hash or a token in their bodies."""


class Counters(Storage):
    """Counters in memory, of one event loop. The library's own storage starts a thread up to a hundred times a second,
    which looks at every counter; this one drops the expired ones when they may be half of all.
    """

    STORAGE_SCHEME = ["thinwire-counters"]  # noqa: RUF012 (the base class declares it so)

    def __init__(self) -> None:
        super().__init__()
        self._counters: dict[str, tuple[int, float]] = {}
        self._sweep_at = _FEW

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def incr(self, key: str, expiry: int, amount: int = 1) -> int:
        now = time.monotonic()
        count, ends = self._counters.get(key, (0, 0.0))
        if ends <= now:
            if len(self._counters) >= self._sweep_at:
                self._counters = {name: found for name, found in self._counters.items() if found[1] > now}
                self._sweep_at = max(_FEW, 2 * len(self._counters))
            count, ends = 0, now + expiry
        self._counters[key] = (count + amount, ends)
        return count + amount

    def get(self, key: str) -> int:
        count, ends = self._counters.get(key, (0, 0.0))
        return count if ends > time.monotonic() else 0

    def get_expiry(self, key: str) -> float:
        return self._counters.get(key, (0, time.monotonic()))[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        dropped = len(self._counters)
        self._counters.clear()
        return dropped

    def clear(self, key: str) -> None:
        self._counters.pop(key, None)

    def __len__(self) -> int:
        return len(self._counters)


@dataclass(frozen=True, slots=True)
class Rates:
    """Requests a second, per client and per address; failures a minute, per address."""

    per_client: int
    per_address: int
    failures: int


class Throttle:
    """Raises `too-many-requests` with the seconds until the window ends. `trusted`: proxies, which stand for everybody
    behind them where they do not say for whom: one stranger's guesses are not everybody's.
    """

    def __init__(self, rates: Rates, trusted: Proxies | None = None) -> None:
        self._trusted = trusted or Proxies()
        self._windows = FixedWindowRateLimiter(Counters())
        self._per_client = RateLimitItemPerSecond(rates.per_client * WINDOW_S, WINDOW_S, "client")
        self._per_address = RateLimitItemPerSecond(rates.per_address * WINDOW_S, WINDOW_S, "address")
        self._failures = RateLimitItemPerMinute(rates.failures, 1, "failures")

    def client(self, name: str) -> None:
        self._hit(self._per_client, name, "requests of this client")

    def address(self, address: str) -> None:
        if address not in self._trusted:
            self._hit(self._per_address, address, "requests from this address")

    def failed(self, address: str) -> None:
        """Somebody there has shown a token or an invite that is none."""
        if address not in self._trusted:
            self._windows.hit(self._failures, address)

    def guess(self, address: str) -> None:
        """Before somebody there is heard who has no valid token."""
        if not self._windows.test(self._failures, address):
            raise self._problem(self._failures, address, "wrong tokens and invites from this address")

    def _hit(self, limit: RateLimitItem, key: str, what: str) -> None:
        if not self._windows.hit(limit, key):
            raise self._problem(limit, key, what)

    def _problem(self, limit: RateLimitItem, key: str, what: str) -> ProblemError:
        ends = self._windows.get_window_stats(limit, key).reset_time
        return ProblemError("too-many-requests", f"too many {what}", retry_after_s=max(1.0, ends - time.monotonic()))


class Throttling:
    """The ASGI middleware, inside `Identity`. The operator is never shut out; who has a token pays for nobody else's
    wrong guesses.
    """

    def __init__(self, app: ASGIApp, throttle: Throttle) -> None:
        self._app = app
        self._throttle = throttle

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope)
            try:
                self._check(request)
            except ProblemError as error:
                await problem_response(request, error)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, request: Request) -> None:
        who = asker(request)
        if who.owner:
            return
        address = address_of(request.scope)
        self._throttle.address(address)
        if who.caller is not None:
            self._throttle.client(who.caller.name)
        elif "authorization" in request.headers or (request.method, request.url.path) in _SHOWN_INSIDE:
            self._throttle.guess(address)
