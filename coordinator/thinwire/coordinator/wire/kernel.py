"""The kernel's side of one connection: what it has counted, what still waits there, and how it is to end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from thinwire.machine.tcp import TcpInfo, tcp_info, unsent

UNSENT_BYTES: Final = 128 << 10
"""Taken by the kernel of what waits to be sent, beyond what is on its way: the rest stays in its file, and does not
cross when the connection ends.
"""
_CLOSED: Final = 7
_FIRST_LOOK_S, _LOOK_S = 0.02, 1.0
_NOTSENT_LOWAT: Final = getattr(socket, "TCP_NOTSENT_LOWAT", 25)


class Kernel:
    """A handle of our own: the transport closes its own before the last bytes have been confirmed, and that of uvloop
    cannot be asked. Where the kernel tells nothing, every answer is None.
    """

    def __init__(self, transport: asyncio.BaseTransport) -> None:
        self._socket: socket.socket | None = None
        self.is_cut = self.is_silent = False
        with contextlib.suppress(AttributeError, OSError):
            self._socket = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
            self._socket.setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, UNSENT_BYTES)

    def counted(self) -> TcpInfo | None:
        return None if self._socket is None else tcp_info(self._socket)

    def waiting(self) -> int | None:
        """Bytes that the peer's kernel has not confirmed."""
        return None if self._socket is None else unsent(self._socket)

    def cut(self, *, silent: bool = False) -> None:
        """From now on nothing more is sent: with the connection goes what waits in the kernel. `silent`: nothing is
        heard of the peer any more, so what it has not confirmed does not count as sent either.
        """
        self.is_cut, self.is_silent = True, silent
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def say_end(self) -> None:
        """Behind what waits: the transport's own end reaches the peer only when this handle is closed, too."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Parting:
    """The end of a connection: what waits in the kernel is still sent, for as long as it moves; one that stands still
    for `stalled_after_s` is cut. `parted` is told what has crossed in the end.
    """

    def __init__(self, kernel: Kernel, stalled_after_s: float, parted: Callable[[TcpInfo | None], None]) -> None:
        self._kernel = kernel
        self._stalled_after_s = stalled_after_s
        self._parted = parted
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._begun: TcpInfo | None = None
        self._confirmed, self._moved_at, self._pause_s = -1, self._loop.time(), _FIRST_LOOK_S

    def begin(self) -> bool:
        """Whether it is over already."""
        self._begun = self._kernel.counted()
        if self._moves(self._begun):
            self._kernel.say_end()
            self._look_later()
            return False
        self.end()
        return True

    def end(self) -> None:
        """Now: what still waits is not sent."""
        if self._timer is not None:
            self._timer.cancel()
        counted = self._kernel.counted()
        if self._kernel.waiting() and not self._kernel.is_cut:
            self._kernel.cut(silent=counted is not None and counted.state != _CLOSED)
        self._kernel.close()
        if self._begun is not None and counted is not None and counted.state == _CLOSED != self._begun.state:
            # The end of the peer's stream, which came meanwhile, has been counted as a byte.
            counted = replace(counted, received=max(self._begun.received, counted.received - 1))
        if self._kernel.is_silent and counted is not None:
            counted = replace(counted, sent=counted.acknowledged)
        self._parted(counted)

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(self._pause_s, self._look)
        self._pause_s = min(2 * self._pause_s, _LOOK_S)

    def _look(self) -> None:
        if self._moves(self._kernel.counted()):
            self._look_later()
        else:
            self.end()

    def _moves(self, counted: TcpInfo | None) -> bool:
        """Whether more may yet be confirmed."""
        if counted is None or counted.state == _CLOSED or self._kernel.is_cut or not self._kernel.waiting():
            return False
        if counted.acknowledged > self._confirmed:
            self._confirmed, self._moved_at = counted.acknowledged, self._loop.time()
        return self._loop.time() - self._moved_at < self._stalled_after_s
