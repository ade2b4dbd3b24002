"""Signals between processes: what one publishes the others hear, and what is lost is looked for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.postgres_server import PostgresServer

pytest.importorskip("psycopg", reason="pip install 'thinwire[postgres]'")

from thinwire.coordinator.signals import postgres as module
from thinwire.coordinator.signals.postgres import PostgresSignals
from thinwire.coordinator.signals.signals import Subscription

SOON_S = 20.0


@pytest.fixture
def two(postgres: PostgresServer) -> Callable[[Callable[[PostgresSignals, PostgresSignals], Awaitable[None]]], None]:
    """Runs a coroutine with the signals of two processes of one database."""
    url = postgres.create()

    @contextlib.asynccontextmanager
    async def following(holder: str) -> AsyncIterator[PostgresSignals]:
        signals = PostgresSignals(url, holder)
        follow = asyncio.create_task(signals.follow())
        try:
            yield signals
        finally:
            follow.cancel()
            await asyncio.gather(follow, return_exceptions=True)

    def run(use: Callable[[PostgresSignals, PostgresSignals], Awaitable[None]]) -> None:
        async def work() -> None:
            async with following("one") as one, following("two") as other:
                await use(one, other)

        asyncio.run(work())

    return run


async def heard(subscription: Subscription, publish: Callable[[], None], wanted: set[tuple[str, str]]) -> None:
    """Publishes until all that is wanted has come: whoever listens later than that hears nothing."""
    found: set[tuple[str, str]] = set()
    async with asyncio.timeout(SOON_S):
        while not wanted <= found:
            publish()
            found |= await subscription.wait(0.2)


def test_what_one_process_publishes_another_hears(two: Callable) -> None:
    async def use(one: PostgresSignals, other: PostgresSignals) -> None:
        many = {(f"run:{number}", "answer:" + "x" * 12) for number in range(1000)}  # more than one notification holds

        def publish() -> None:
            for topic, item in many:
                one.publish(topic, item)
            one.publish("stop")
            one.publish("runs", "last")

        with other.subscribe("runs", "stop", *(topic for topic, _ in many)) as there:
            await heard(there, publish, {*many, ("runs", "last")})
        with one.subscribe("stop", "run:a") as here, other.subscribe("stop", "run:a") as there:
            one.publish("stop")
            assert await here.wait(0) == {("stop", "")}
            await heard(there, lambda: one.publish("run:a", "x"), {("run:a", "x")})
            assert await there.wait(0) <= {("run:a", "x")}  # never that the other process ends

    two(use)


def test_a_hint_that_is_lost_costs_one_look(two: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.05)

    async def use(one: PostgresSignals, other: PostgresSignals) -> None:
        with other.subscribe("run:a", "client:b") as there:
            async with asyncio.timeout(SOON_S):
                assert await there.wait() == {("run:a", "")}

    two(use)


def test_a_connection_that_is_cut_is_made_again_and_what_waits_is_told(two: Callable, postgres: PostgresServer) -> None:
    import psycopg

    async def use(one: PostgresSignals, other: PostgresSignals) -> None:
        with other.subscribe("run:a") as there:
            await heard(there, lambda: one.publish("run:a", "x"), {("run:a", "x")})
            async with await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as connection:
                ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE %s"
                await connection.execute(ended, ("thinwire signals",))
            await heard(there, lambda: one.publish("run:a", "y"), {("run:a", "y")})

    two(use)
