"""Which answers an exchange of an asynchronous run counts, where nobody has counted them: all clients are equally fast,
and answer in the order in which they were asked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from typing import NamedTuple

from thinwire.protocol.identity import cohort_order
from thinwire.protocol.settings import RunSettings


class Counted(NamedTuple):
    """An answer that counts: whose, and to the task of which exchange."""

    client: str
    exchange: int


class Buffer:
    """As many clients at work as the run wants, each at one task. Whom an exchange's last answer leaves free, the next
    one asks.
    """

    def __init__(self, run: RunSettings, clients: Collection[str]) -> None:
        self._run = run
        self._clients = frozenset(clients)
        self._at_work: deque[Counted] = deque()

    def next(self, index: int, round_: int) -> list[Counted]:
        """The answers that this exchange counts, in the order in which they come; fewer than it wants where there are
        not enough clients.
        """
        oldest = index - (self._run.max_staleness or 0)
        self._at_work = deque(one for one in self._at_work if one.exchange >= oldest)
        asked: set[str] = set()
        counted: list[Counted] = []
        while len(counted) < self._run.cohort:
            self._ask(index, round_, asked)
            if not self._at_work:
                break
            counted.append(self._at_work.popleft())
        return counted

    def _ask(self, index: int, round_: int, asked: set[str]) -> None:
        """Fills what is free. `asked`: whom this exchange has asked already."""
        room = self._run.kept_busy - len(self._at_work)
        if room > 0:
            free = self._clients - asked - {one.client for one in self._at_work}
            names = cohort_order(self._run.seed, round_, free)[:room]
            asked.update(names)
            self._at_work.extend(Counted(name, index) for name in names)
