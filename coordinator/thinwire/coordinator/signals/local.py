"""Signals within one process: a publication costs as much as its topic has subscribers."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType

from .signals import Hint


class LocalSignals:
    """See `Signals`."""

    def __init__(self) -> None:
        self._listening: dict[str, set[LocalSubscription]] = {}

    @property
    def topics(self) -> int:
        return len(self._listening)

    def listened(self, begins: tuple[str, ...]) -> list[str]:
        """The topics that somebody listens to and that begin so."""
        return [topic for topic in self._listening if topic.startswith(begins)]

    def publish(self, topic: str, item: str = "") -> None:
        for subscription in self._listening.get(topic, ()):
            subscription.hear((topic, item))

    def remind(self, topic: str) -> None:
        self.publish(topic)

    def subscribe(self, *topics: str) -> LocalSubscription:
        return LocalSubscription(self, topics)

    def begin(self, subscription: LocalSubscription, topic: str) -> None:
        """This subscription hears the topic from now on."""
        self._listening.setdefault(topic, set()).add(subscription)

    def end(self, subscription: LocalSubscription, topic: str) -> None:
        """The opposite; a topic that nobody listens to is forgotten."""
        listening = self._listening[topic]
        listening.remove(subscription)
        if not listening:
            del self._listening[topic]


class LocalSubscription:
    """See `Subscription`."""

    __slots__ = ("__weakref__", "_begun", "_heard", "_signals", "_some", "_topics")

    def __init__(self, signals: LocalSignals, topics: tuple[str, ...]) -> None:
        self._signals = signals
        self._topics = set(topics)
        self._heard: set[Hint] = set()
        self._some = asyncio.Event()
        self._begun = False

    def __enter__(self) -> LocalSubscription:
        self._begun = True
        for topic in self._topics:
            self._signals.begin(self, topic)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._begun = False
        for topic in self._topics:
            self._signals.end(self, topic)

    def add(self, topic: str) -> None:
        self._check()
        if topic not in self._topics:
            self._topics.add(topic)
            self._signals.begin(self, topic)

    def drop(self, topic: str) -> None:
        self._check()
        if topic in self._topics:
            self._topics.remove(topic)
            self._signals.end(self, topic)

    def hear(self, hint: Hint) -> None:
        """Keeps the hint for the next `wait`."""
        self._heard.add(hint)
        self._some.set()

    async def wait(self, timeout_s: float | None = None) -> set[Hint]:
        self._check()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._some.wait()
        heard, self._heard = self._heard, set()
        self._some.clear()
        return heard

    def _check(self) -> None:
        if not self._begun:
            raise RuntimeError("nothing is heard outside of the subscription's with")
