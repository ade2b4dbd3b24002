"""How bodies are read: whoever wants one takes each piece in the turn of the loop in which it was read.

Nothing waits in memory then, however many connections send, and what has arrived is not lost with its connection: the
server below keeps pieces until it is asked for them, and throws them away where the connection has ended by then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

SINK: Final = "thinwire.sink"
"""The key of the request's `Sink` in the ASGI scope."""
TAKEN_BYTES: Final = 256 << 10
"""Read at once of a body that somebody takes."""
KEPT_BYTES: Final = 16 << 10
"""Read at once of anything else: the server below keeps it."""


class Sink:
    """Where one request's body goes. `take`: gets each piece, or None; `error`: what it raised, which was its end;
    `moved_at`: the loop's time of the last piece.
    """

    __slots__ = ("error", "moved_at", "take")

    def __init__(self) -> None:
        self.take: Callable[[bytes], None] | None = None
        self.error: Exception | None = None
        self.moved_at = 0.0

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


class SinkProtocol(HttpToolsProtocol):
    """uvicorn's protocol with a `Sink` in the scope of each request."""

    sink = Sink()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.sink = Sink()
        self.scope[SINK] = self.sink  # type: ignore[typeddict-unknown-key]

    def on_body(self, body: bytes) -> None:
        if not self.sink.put(body):
            # Without a byte it wakes who waits for more, and finds the error.
            super().on_body(b"" if self.sink.error else body)


class Pieces(asyncio.BufferedProtocol):
    """Hands on to another protocol what arrives, a piece at a time."""

    # A read ends in `buffer_updated` before the next one begins, of whichever connection.
    _buffer = memoryview(bytearray(TAKEN_BYTES))

    def __init__(self, protocol: SinkProtocol) -> None:
        self._protocol = protocol
        self.connection_made = protocol.connection_made  # type: ignore[method-assign,assignment]
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer[: KEPT_BYTES if self._protocol.sink.take is None else TAKEN_BYTES]

    def buffer_updated(self, nbytes: int) -> None:
        self._protocol.data_received(bytes(self._buffer[:nbytes]))


def in_pieces(base: type[SinkProtocol]) -> Callable[..., Pieces]:
    """What makes a server's protocols, each behind `Pieces`."""
    return lambda **given: Pieces(base(**given))
