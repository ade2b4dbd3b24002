"""The latest lines that a client has said, for whoever runs the coordinator: what went before a failure."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final, Literal

import zstandard

from thinwire.protocol.fields import MAX_LOG_LINES, MAX_SAID
from thinwire.protocol.reasons import ProblemError

from .console import Say
from .conversation import ENDS_TALK
from .link.replies import check, read_reply
from .link.transfer import UNHEARD, Transfer

When = Literal["failures", "rounds", "never"]
_LEVEL: Final = 9
_LONGEST_REPLY: Final = 1 << 16
_OCTETS: Final = {"Content-Type": "application/octet-stream"}


class Diary:
    """Says lines as `say` does, and remembers the last 200 that the coordinator does not have. They are what this
    package says to the person at the device: no data, and of what a task of the user's raises only its kind.

    `when`: they are sent: behind a failure, behind every answer, or never. `clock`: Unix seconds.
    """

    def __init__(self, say: Say, when: When, clock: Callable[[], float] = time.time) -> None:
        self._say = say
        self._when = when
        self._clock = clock
        self._lines: deque[str] = deque(maxlen=MAX_LOG_LINES)
        self._sent = 0

    def __call__(self, line: str) -> None:
        """Said and remembered."""
        self._say(line)
        self.remember(line)

    def remember(self, line: str) -> None:
        """Remembered, where somebody else says it."""
        if self._when != "never":
            self._lines.append(f"{self._clock():.0f} {' '.join(line.split())[:MAX_SAID]}")

    def packed(self, *, failed: bool) -> bytes | None:
        """The body of a request that brings the lines; None where there is nothing to be sent now."""
        if not self._lines or self._when == "never" or not (failed or self._when == "rounds"):
            return None
        self._sent = len(self._lines)
        return zstandard.ZstdCompressor(level=_LEVEL).compress("\n".join(self._lines).encode())

    def arrived(self) -> None:
        """The coordinator has what was packed last."""
        for _ in range(min(self._sent, len(self._lines))):
            self._lines.popleft()
        self._sent = 0


def bring(transfer: Transfer, client: str, lines: bytes) -> bool:
    """Sends what a diary has packed; whether it has arrived. Tried once: nobody waits for it, and a coordinator of
    before there were such lines has no place for them.
    """
    try:
        with transfer.open("POST", f"/v1/clients/{client}/log", _OCTETS, lines) as response:
            check(read_reply(response, _LONGEST_REPLY))
    except (*UNHEARD, *ENDS_TALK, ProblemError):
        return False
    return True
