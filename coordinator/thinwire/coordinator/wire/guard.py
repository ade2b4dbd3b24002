"""What one connection may cost: how many there are, how long a request's head may take, what surrounds its body.
A peer that does not read is `stalls`' to cut.

The server below keeps a head of any length, waits for it for ever, and reads on after an answer for as long as a body
goes on.
"""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Callable
from typing import Final

from .addresses import Proxies

MAX_HEAD_BYTES: Final = 1 << 14
"""Of a request's line and headers, and beyond that of as many bytes around its body as the body has."""
MAX_REST_BYTES: Final = 1 << 22
"""Of a body that goes on when its request has been answered: read, so that the answer is, and thrown away."""
_OTHER_FILES: Final = 256
_MOST_FILES: Final = 1 << 16


class Crowd:
    """How many connections are open, in all and per address. `trusted`: proxies, whose own number is not limited."""

    def __init__(self, *, most: int, per_address: int, trusted: Proxies | None = None) -> None:
        self._most = most
        self._per_address = per_address
        self._trusted = trusted or Proxies()
        self._open = Counter[str]()

    def enter(self, address: str) -> str | None:
        """Counts it; or the reason why it is not wanted."""
        if self._open.total() >= self._most:
            return "unavailable"
        if address not in self._trusted and self._open[address] >= self._per_address:
            return "too-many-requests"
        self._open[address] += 1
        return None

    def leave(self, address: str) -> None:
        self._open[address] -= 1
        if not self._open[address]:
            del self._open[address]


def most_connections() -> int:
    """How many this process may have, which lets itself have as many as the machine allows: each takes two handles, and
    files need some, too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return (max(most, 2 * _OTHER_FILES) - _OTHER_FILES) // 2


class Guard:
    """Of one connection, told of what its parser finds. `abort` ends the connection when a head takes longer than
    `stalled_after_s`; so it does when the rest of an answered request does.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, stalled_after_s: float, abort: Callable[[], None]) -> None:
        self._loop = loop
        self._stalled_after_s = stalled_after_s
        self._abort = abort
        self._timer: asyncio.TimerHandle | None = None
        self._head = False  # a request has begun whose headers are not complete
        self._began = False  # with the data that came last
        self._body = 0
        self._body_before = 0
        self._framing = 0
        self._rest: int | None = None

    def takes(self, size: int) -> bool:
        """Before bytes are parsed: whether they are still wanted."""
        self._body_before, self._began = self._body, False
        if self._rest is not None:
            self._rest -= size
        return self._rest is None or self._rest >= 0

    def took(self, size: int, *, idle: bool) -> bool:
        """After they were parsed: whether the request goes on. `idle`: no request is being read or answered."""
        self._framing = 0 if self._began else self._framing + size - (self._body - self._body_before)
        if self._framing > MAX_HEAD_BYTES + self._body:
            return False
        if self._head or idle:
            self.wait()
        return True

    def head_begins(self) -> None:
        self._head = self._began = True
        self._body = 0

    def head_ends(self) -> None:
        self._head = False
        self.stop_waiting()

    def body(self, size: int) -> None:
        self._body += size

    def body_ends(self) -> None:
        if self._rest is not None:
            self._rest = None
            self.stop_waiting()

    def answered_early(self) -> None:
        """The request has been answered though its body goes on."""
        self._rest = MAX_REST_BYTES
        self.wait()

    def wait(self) -> None:
        """From now on, unless it waits already."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._stalled_after_s, self._too_late)

    def stop_waiting(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_late(self) -> None:
        self._timer = None
        self._abort()
