"""How much is read from a connection at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

READ_BYTES: Final = 68 << 10
"""Just above the 64 KiB at which uvicorn stops reading until the application has taken what is there."""


class Pieces(asyncio.BufferedProtocol):
    """Hands on to another protocol what arrives, `READ_BYTES` at most at a time: the loop's own reads are of 256 KiB,
    which a hundred clients that send make 25 MB.
    """

    # A read ends in `buffer_updated` before the next one begins, of whichever connection.
    _buffer = memoryview(bytearray(READ_BYTES))

    def __init__(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        self.connection_made = protocol.connection_made  # type: ignore[method-assign]
        self.connection_lost = protocol.connection_lost  # type: ignore[method-assign]
        self.eof_received = protocol.eof_received  # type: ignore[method-assign]
        self.pause_writing = protocol.pause_writing  # type: ignore[method-assign]
        self.resume_writing = protocol.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        self._protocol.data_received(bytes(self._buffer[:nbytes]))


def in_pieces(base: type[asyncio.Protocol]) -> Callable[..., Pieces]:
    """What makes a server's protocols, each behind `Pieces`."""
    return lambda **given: Pieces(base(**given))
