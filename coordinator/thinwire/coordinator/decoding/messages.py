"""What goes between a coordinator and the processes that decode for it: msgpack through pipes; arrays lie in files.

Nothing is unpickled, and whichever end dies, the other one reads the end of its pipe.
"""

from __future__ import annotations

import struct
from typing import IO, Any, Final

import msgpack

_LENGTH: Final = struct.Struct("<I")


def send(pipe: IO[bytes], message: dict[str, Any]) -> None:
    """Raises: `OSError` (the other end is gone)."""
    data = msgpack.packb(message)
    pipe.write(_LENGTH.pack(len(data)) + data)
    pipe.flush()


def receive(pipe: IO[bytes]) -> dict[str, Any] | None:
    """The next message; None where the other end is gone."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = pipe.read(length)
    if len(data) < length:
        return None
    message: dict[str, Any] = msgpack.unpackb(data)
    return message
