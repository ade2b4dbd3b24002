"""Connections whose peer reads nothing: cut when not one byte has been confirmed for `stalled_after_s`.

What counts is what the peer's kernel has confirmed, not what can be written: the kernel takes in what a thin link needs
minutes for, and then nothing for as long. (Linux's TCP_USER_TIMEOUT would do the same, but it cuts a peer that reads on
as long as its window stays smaller than a segment.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from .kernel import Kernel


class StallWatch:
    """Watches one connection from the first byte that waits to the last one confirmed, and then again.

    `wrote` is told of every write, `end` of the connection's end; `abort` ends it.
    """

    def __init__(
        self, transport: asyncio.Transport, kernel: Kernel, stalled_after_s: float, abort: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._kernel = kernel
        self._stalled_after_s = stalled_after_s
        self._abort = abort
        self._timer: asyncio.TimerHandle | None = None

    def wrote(self) -> None:
        if self._timer is None:
            self._look_later()

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look_later(self) -> None:
        confirmed, _ = self._sent()
        self._timer = asyncio.get_running_loop().call_later(self._stalled_after_s, self._look, confirmed)

    def _look(self, confirmed_before: int) -> None:
        """Bytes waited all this time."""
        self._timer = None
        confirmed, waiting = self._sent()
        if waiting and confirmed == confirmed_before:
            self._abort()
        elif waiting:
            self._look_later()

    def _sent(self) -> tuple[int, int]:
        """Bytes that the peer has confirmed, and bytes that wait for it here. Where the kernel does not tell (Linux
        does), what this process still holds stands for both.
        """
        held = self._transport.get_write_buffer_size()
        counted, queued = self._kernel.counted(), self._kernel.waiting()
        if counted is None or queued is None:
            return -held, held
        return counted.acknowledged, queued + held
