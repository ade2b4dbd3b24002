"""Learners of one process that take turns at one model."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from thinwire.codecs import Spec
from thinwire.edge_client.data import ClientInfo
from thinwire.edge_client.learner import Learner

_MOST_KEPT: Final = 256
"""Learners, each with its client's examples in memory."""


class SharedLearners:
    """`make`: a client's learner, which shares the model of another. Between two tasks of a client its learner may be
    another one, as after a restart: what a method remembers lies in the client's folder. `at_once`: tasks that may hold
    what they brought in memory.
    """

    def __init__(self, make: Callable[[ClientInfo, Learner | None], Learner], at_once: int) -> None:
        self._make = make
        self._first: Learner | None = None
        self._kept: OrderedDict[str, Learner] = OrderedDict()
        self._room = threading.BoundedSemaphore(at_once)
        self._turn = threading.Lock()

    def of(self, client: ClientInfo, spec: Spec, tell: Callable[[bool], None]) -> Turns:
        """The turns of this client. `tell`: whether it is at a task."""
        return Turns(self, client, spec, tell)

    @contextmanager
    def room(self) -> Iterator[None]:
        """For one more task."""
        with self._room:
            yield

    @contextmanager
    def turn(self, client: ClientInfo) -> Iterator[Learner]:
        """This client's learner, while no other works. Raises: `ProblemFileError`."""
        with self._turn:
            learner = self._kept.pop(client.name, None) or self._make(client, self._first)
            self._first = self._first or learner
            self._kept[client.name] = learner
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
            yield learner


class Turns:
    """As `thinwire.edge_client.learner.Turns`."""

    def __init__(self, learners: SharedLearners, client: ClientInfo, spec: Spec, tell: Callable[[bool], None]) -> None:
        self.name, self.spec = client.name, spec
        self._learners = learners
        self._client = client
        self._tell = tell

    @contextmanager
    def task(self) -> Iterator[None]:
        with self._learners.room():
            self._tell(True)
            try:
                yield
            finally:
                self._tell(False)

    @contextmanager
    def turn(self) -> Iterator[Learner]:
        with self._learners.turn(self._client) as learner:
            yield learner
