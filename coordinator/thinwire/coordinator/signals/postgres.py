"""Signals between processes, by PostgreSQL's LISTEN and NOTIFY: ids only, and a look beside them."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import psycopg
import structlog

from .local import LocalSignals, LocalSubscription

CHANNEL: Final = "thinwire"
LOOK_S: Final = 5.0
"""What a process waits for is looked at this often, whatever it has heard: a hint may have been lost."""
RETRY_S: Final = 0.5
MOST_BYTES: Final = 7000
"""Of one notification; PostgreSQL takes less than 8000."""
MOST_WAITING: Final = 100_000
"""Hints that wait for the database to come back; beyond, a look has to do."""
LOOKED_AT: Final = ("run:", "task:", "events:", "closed:")
"""Topics that somebody waits for because of one thing. What thousands of polls wait for is looked up for all at once
(`client:`, `group:`), or every second (`runs`, `access`).
"""
AT_HOME: Final = frozenset({"stop"})
"""Topics that say something of this process alone."""
_log = structlog.get_logger("thinwire.coordinator")


class PostgresSignals:
    """See `Signals`. `holder`: this process's name. `follow` for as long as the process lives."""

    def __init__(self, url: str, holder: str) -> None:
        self._url = url
        self._holder = holder
        self._local = LocalSignals()
        self._waiting: dict[tuple[str, str], None] = {}
        self._some = asyncio.Event()

    @property
    def topics(self) -> int:
        return self._local.topics

    def publish(self, topic: str, item: str = "") -> None:
        self._local.publish(topic, item)
        if topic not in AT_HOME and len(self._waiting) < MOST_WAITING:
            self._waiting[topic, item] = None
            self._some.set()

    def remind(self, topic: str) -> None:
        self._local.publish(topic)

    def subscribe(self, *topics: str) -> LocalSubscription:
        return self._local.subscribe(*topics)

    async def follow(self) -> None:
        """Hears what others publish and tells them what this process does, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._look(), name="signals-look")
            group.create_task(self._connected(self._hear), name="signals-hear")
            group.create_task(self._connected(self._tell), name="signals-tell")

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self._look_at_all()

    def _look_at_all(self) -> None:
        for topic in self._local.listened(LOOKED_AT):
            self._local.publish(topic)

    async def _connected(self, work: Any) -> None:
        """Does it over a connection, and over another one when that breaks."""
        was_heard = True
        while True:
            try:
                connection = await psycopg.AsyncConnection.connect(
                    self._url, autocommit=True, connect_timeout=5, keepalives_idle=5, keepalives_interval=2,
                    keepalives_count=3, application_name="thinwire signals", prepare_threshold=None,
                )  # fmt: skip
                async with connection:
                    was_heard = True
                    await work(connection)
            except psycopg.Error as error:
                if was_heard:
                    _log.warning("signals are lost for a while; whoever waits looks", why=str(error).strip())
                was_heard = False
                await asyncio.sleep(RETRY_S)

    async def _hear(self, connection: psycopg.AsyncConnection[Any]) -> None:
        await connection.execute(f"LISTEN {CHANNEL}".encode())
        self._look_at_all()
        async for notification in connection.notifies():
            holder, *hints = notification.payload.split("\n")
            if holder != self._holder:
                for hint in hints:
                    topic, _, item = hint.partition("\t")
                    self._local.publish(topic, item)

    async def _tell(self, connection: psycopg.AsyncConnection[Any]) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            hints, self._waiting = list(self._waiting), {}
            try:
                for text in _packed(self._holder, hints):
                    await connection.execute("SELECT pg_notify(%s, %s)", (CHANNEL, text))
            except psycopg.Error:
                self._waiting = dict.fromkeys([*hints, *self._waiting])
                self._some.set()
                raise


def _packed(holder: str, hints: list[tuple[str, str]]) -> list[str]:
    """The hints as texts that a notification can carry."""
    texts, text = [], holder
    for topic, item in hints:
        line = f"\n{topic}\t{item}"
        if len(text) + len(line) > MOST_BYTES:
            texts.append(text)
            text = holder
        text += line
    return [*texts, text]
