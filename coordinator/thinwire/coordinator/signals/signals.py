"""What everything that waits for a change waits by.

runs              RUN: it was created
run:RUN           command; answer:TASK; task:TASK was declined; client:CLIENT is shut out
polls:GROUP       CLIENT: it waits for a task
client:CLIENT     there may be something for it, or it is shut out
group:GROUP       a run of the group was created, resumed or finished
pending:HASH      the device whose invite has this hash is let in, or not
upload:UPLOAD     wanted: another process is to go on with it
handed:UPLOAD     nobody holds it any more
task:TASK         its verdict is there
events:RUN        there are new events
closed:RUN        EXCHANGE: it is closed
webhooks          there are others, or one is to be tried again
access            CLIENT, or `operator`: a token is another one, or worth nothing
stop              the process ends
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol

Hint = tuple[str, str]
"""A topic and an item of it: an id or a word, never content; empty for the topic as a whole."""


class Subscription(Protocol):
    """Hears what is published from the moment its `with` begins to its end. One waiter at a time."""

    def __enter__(self) -> Subscription: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def add(self, topic: str) -> None:
        """Hears this topic too from now on."""
        ...

    def drop(self, topic: str) -> None:
        """No longer hears this topic; what has been heard of it is still told."""
        ...

    async def wait(self, timeout_s: float | None = None) -> set[Hint]:
        """What has been published since the last call, each hint once; without any, the first to come.

        Empty when nothing has come for `timeout_s` seconds (None: for ever). A call that is cancelled takes nothing.
        """
        ...


class Signals(Protocol):
    """Used on the event loop. A hint says where to look, and what is found there counts: one that is merged with
    another or comes twice does no harm.
    """

    @property
    def topics(self) -> int:
        """How many topics somebody of this process listens to."""
        ...

    def publish(self, topic: str, item: str = "") -> None:
        """Tells all who have subscribed to the topic; nobody else, and nobody who does so later."""
        ...

    def remind(self, topic: str) -> None:
        """As `publish`, of all who have subscribed in this process alone."""
        ...

    def subscribe(self, *topics: str) -> Subscription:
        """Begins to listen with its `with`."""
        ...
