"""How long a connection may rest: learnt, since nobody on the way says what he forgets and when."""

from __future__ import annotations

from typing import Final

import httpcore

from thinwire.protocol.reasons import ProblemError

from .replies import StrangerError

SHORTEST_POLL_S: Final = 15
LONGEST_POLL_S: Final = 600
_HELD_BEFORE_LONGER: Final = 8
_PROBES_PER_POLL: Final = 4
_SHORT_POLL_S: Final = 5


class PollLength:
    """Of the polls of one client. `seconds` begins short, doubles with each poll that was held to its end, and is cut
    down where a connection died meanwhile; what has failed is tried again, after ever more polls that were held.

    Every poll that is held costs a request and a response, so on a good link they soon are as long as may be.
    """

    def __init__(self) -> None:
        self.seconds = SHORTEST_POLL_S
        self._most = LONGEST_POLL_S
        self._held = 0
        self._wanted = 0

    @property
    def keepalive_s(self) -> int:
        """After how long without a byte TCP itself is to ask whether the peer is there. A poll four times as long has
        shown before that the link lets a connection rest for so long.
        """
        return max(SHORTEST_POLL_S, self.seconds // _PROBES_PER_POLL)

    def held(self) -> None:
        """A poll of this length was answered at its end."""
        self._held += 1
        if self.seconds == LONGEST_POLL_S:
            self._wanted = 0
        if self.seconds >= self._most and self._held >= self._wanted:
            self._most = min(LONGEST_POLL_S, 2 * self._most)
        if self.seconds < self._most:
            self.seconds = min(2 * self.seconds, self._most)
            self._held = 0

    def lost(self, lived_s: float) -> None:
        """A poll was not answered, or by somebody else: after so many seconds its connection was dead or forgotten."""
        self._wanted = max(1, self._wanted) * _HELD_BEFORE_LONGER
        self._most = self.seconds = max(SHORTEST_POLL_S, min(self.seconds // 2, int(lived_s * 3 / 4)))
        self._held = 0


def was_held(error: Exception, lived_s: float, *, known: bool) -> bool:
    """Whether this ended a poll that somebody on the way had held for a while, and does not hold for as long as it was
    to last. `known`: a coordinator is known to live at the address.
    """
    if isinstance(error, (httpcore.ConnectError, httpcore.ConnectTimeout)) or lived_s < _SHORT_POLL_S:
        return False
    if isinstance(error, StrangerError):
        return known
    return not isinstance(error, ProblemError) or error.reason == "unavailable"
