"""What the kernel knows of a TCP connection. Linux tells, from 4.19 on; elsewhere the answer is None."""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
from dataclasses import dataclass
from typing import Final

# Offsets in Linux's struct tcp_info; the counts are unsigned, of 64 bits.
_STATE, _ACKNOWLEDGED, _RECEIVED, _SENT, _RETRANSMITTED = 0, 120, 128, 200, 208
_TCP_INFO_BYTES: Final = 256
_CLOSE_WAIT, _LAST_ACK, _CLOSING = 8, 9, 11


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """Bytes of one connection since it was opened, by the kernel's count, above TCP's own headers.

    `received`: each byte once, without the end of the peer's stream. `sent`: each byte once; `retransmitted`: what
    was sent again beyond that. `acknowledged`: of those sent, what the peer's kernel has confirmed. `state`: as Linux
    numbers it.
    """

    received: int
    sent: int
    retransmitted: int
    acknowledged: int
    state: int


def tcp_info(connection: socket.socket) -> TcpInfo | None:
    """The kernel's counts of this connection; None where it keeps none: another system, no TCP, a closed socket."""
    if sys.platform != "linux":
        return None
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_BYTES)
        acknowledged, received, sent, again = (
            struct.unpack_from("=Q", info, offset)[0] for offset in (_ACKNOWLEDGED, _RECEIVED, _SENT, _RETRANSMITTED)
        )
    except (OSError, struct.error):
        return None
    state = info[_STATE]
    # The end of the peer's stream takes a number of its own, which the kernel counts as a byte.
    ended = state in (_CLOSE_WAIT, _LAST_ACK, _CLOSING)
    # So do the two ends of ours, in what is confirmed.
    return TcpInfo(received - ended, sent - again, again, min(acknowledged, sent - again), state)


def unsent(connection: socket.socket) -> int | None:
    """Bytes written to this socket that the peer's kernel has not confirmed; None where the kernel does not tell."""
    try:
        answer = fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4))
    except (OSError, ValueError):
        return None
    waiting: int = struct.unpack("i", answer)[0]
    return waiting
