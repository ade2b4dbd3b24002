"""What a process says to the service manager that started it (systemd's sd_notify(3)), and whether it is still at work.

Without such a manager nothing is said to anybody.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, MutableMapping
from typing import Final, Self

_BEATS_PER_DEADLINE: Final = 3
_MICROSECONDS: Final = 1e6


class Supervisor:
    """`address`: of the manager's datagram socket, None where there is none; `watchdog_s`: after how long without a
    sign of life the manager ends this process, None where it does not look.
    """

    def __init__(self, address: str | None = None, watchdog_s: float | None = None) -> None:
        self._address = address
        self.watchdog_s = watchdog_s

    @classmethod
    def of(cls, variables: MutableMapping[str, str]) -> Self:
        """Of the environment, which is rid of it: what this process starts has nothing to say there."""
        address = variables.pop("NOTIFY_SOCKET", "")
        lasts = variables.pop("WATCHDOG_USEC", "")
        process = variables.pop("WATCHDOG_PID", "")
        mine = lasts.isdecimal() and process in ("", str(os.getpid()))
        return cls(address or None, int(lasts) / _MICROSECONDS if mine else None)

    @property
    def beat_s(self) -> float | None:
        """How often to give a sign of life."""
        return None if self.watchdog_s is None else self.watchdog_s / _BEATS_PER_DEADLINE

    def tell(self, **facts: str) -> None:
        """`READY="1"`, `STATUS="waiting for a task"`, `WATCHDOG="1"`, `STOPPING="1"`. Whether anybody hears it is no
        matter of the work.
        """
        if self._address is None:
            return
        # An "@" stands for the zero byte of an abstract address.
        where = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        text = "\n".join(f"{name}={' '.join(value.split())}" for name, value in facts.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto(text.encode(), where)


class Pulse:
    """Signs of life for as long as the work keeps to what it said: a process that hangs, in a driver or a deadlock, is
    ended by its manager and started again.

    The work says before each step how long it may take (`within`); `beat` is called from another thread, so a step may
    compute for hours. `now_s`: seconds that only differences are taken of.
    """

    def __init__(self, beat: Callable[[], None], *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._beat = beat
        self._now_s = now_s
        self._until = float("inf")
        self._ended = threading.Event()

    def within(self, seconds: float) -> None:
        """From now on the work says something again within so many seconds."""
        self._until = self._now_s() + seconds

    def look(self) -> bool:
        """Gives a sign of life, if there is one."""
        alive = self._now_s() <= self._until
        if alive:
            self._beat()
        return alive

    def start(self, every_s: float | None) -> None:
        """Looks so often, until `end`; None: never."""
        if every_s is not None:
            threading.Thread(target=self._look, args=(every_s,), name="pulse", daemon=True).start()

    def end(self) -> None:
        self._ended.set()

    def _look(self, every_s: float) -> None:
        while True:
            self.look()
            if self._ended.wait(every_s):
                return
