"""How bodies are read: whoever wants one takes each piece in the turn of the loop in which it was read.

Nothing waits in memory then, however many connections send, and what has arrived is not lost with its connection: the
server below keeps pieces until it is asked for them, and throws them away where the connection has ended by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

SINK: Final = "thinwire.sink"
"""The key of the request's `Sink` in the ASGI scope."""
TAKEN_BYTES: Final = 256 << 10
"""Read at once of a body that somebody takes."""
KEPT_BYTES: Final = 4 << 10
"""Read at once of anything else: the server below keeps it."""


class Sink:
    """Where one request's body goes. `take`: gets each piece, or None; `error`: what it raised, which was its end;
    `moved_at`: the loop's time of the last piece; `stalled_after_s`: how long a body may stand still, None for ever.
    """

    __slots__ = ("error", "moved_at", "stalled_after_s", "take")

    def __init__(self, stalled_after_s: float | None = None) -> None:
        self.take: Callable[[bytes], None] | None = None
        self.error: Exception | None = None
        self.moved_at = 0.0
        self.stalled_after_s = stalled_after_s

    @property
    def stalls_at(self) -> float | None:
        """The loop's time at which the body has stood still for too long, should nothing come until then."""
        return None if self.stalled_after_s is None else self.moved_at + self.stalled_after_s

    def put(self, piece: bytes) -> bool:
        """Whether it was taken."""
        if self.take is None:
            return False
        try:
            self.take(piece)
        except Exception as error:
            self.take, self.error = None, error
            return False
        self.moved_at = asyncio.get_running_loop().time()
        return True


class Pieces(asyncio.BufferedProtocol):
    """Hands on to another protocol what arrives, a piece at a time. `takes`: whether somebody takes what comes."""

    # A read ends in `buffer_updated` before the next one begins, of whichever connection.
    _buffer = memoryview(bytearray(TAKEN_BYTES))

    def __init__(self, protocol: asyncio.Protocol, takes: Callable[[], bool]) -> None:
        self._protocol = protocol
        self._takes = takes
        self.connection_made = protocol.connection_made  # type: ignore[method-assign]
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer[: TAKEN_BYTES if self._takes() else KEPT_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        self._protocol.data_received(bytes(self._buffer[:nbytes]))
