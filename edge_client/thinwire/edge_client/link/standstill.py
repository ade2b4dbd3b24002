"""When a connection on which nothing moves is given up."""

from __future__ import annotations


class Standstill:
    """When to give a connection up on which nothing moves: `timeout_s` after its last byte, sent or confirmed."""

    def __init__(self, timeout_s: float, now_s: float, confirmed: int | None) -> None:
        self._timeout_s = timeout_s
        self._moved_at = now_s
        self._confirmed = confirmed

    def left_s(self, now_s: float, confirmed: int | None) -> float:
        """How long to wait still. `confirmed`: bytes whose arrival the peer's kernel has confirmed until now.

        What was on its way when the wait began is confirmed a moment later: that is no sign that an answer is coming,
        so it moves the end by that moment alone.
        """
        if confirmed != self._confirmed:
            self._confirmed, self._moved_at = confirmed, now_s
        return self._moved_at + self._timeout_s - now_s
