"""What the clients of a fleet are doing, counted: written by their threads, read by the person who watches."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

Doing = Literal["joining", "waiting", "working", "away", "finished", "left", "failed"]
DOINGS: Final[tuple[Doing, ...]] = ("joining", "waiting", "working", "away", "finished", "left", "failed")


@dataclass(slots=True)
class Snapshot:
    """`doing`: how many clients do what; `tasks`: worked on so far; `sent`, `received`: bytes, as their processes see
    them; `failures`: what ended how many clients.
    """

    doing: Counter[Doing] = field(default_factory=Counter)
    tasks: int = 0
    sent: int = 0
    received: int = 0
    failures: Counter[str] = field(default_factory=Counter)

    @staticmethod
    def sum(parts: Iterable[Snapshot]) -> Snapshot:
        """Of several processes."""
        whole = Snapshot()
        for part in parts:
            whole.doing += part.doing
            whole.tasks += part.tasks
            whole.sent += part.sent
            whole.received += part.received
            whole.failures += part.failures
        return whole

    def words(self) -> str:
        """`82 waiting, 4 working`."""
        return ", ".join(f"{self.doing[one]:,} {one}" for one in DOINGS if self.doing[one])


class Board:
    """Of one process; every call from any thread."""

    def __init__(self, clients: Iterable[str]) -> None:
        self._lock = threading.Lock()
        self._doing: dict[str, Doing] = dict.fromkeys(clients, "joining")
        self._tasks = 0
        self._failures = Counter[str]()

    def set(self, client: str, doing: Doing) -> None:
        """This client is now at that."""
        with self._lock:
            self._tasks += self._doing[client] == "working" and doing == "waiting"
            self._doing[client] = doing

    def fail(self, client: str, why: str) -> None:
        """This client has ended without the end of its runs."""
        with self._lock:
            self._doing[client] = "failed"
            self._failures[why] += 1

    def snapshot(self, sent: int, received: int) -> Snapshot:
        """As it is now."""
        with self._lock:
            return Snapshot(Counter(self._doing.values()), self._tasks, sent, received, Counter(self._failures))
