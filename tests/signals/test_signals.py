"""What every kind of signals keeps: no hint is lost between two waits, and only who subscribed hears any."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib.util
import weakref
from collections import defaultdict
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.coordinator.signals.local import LocalSignals
from thinwire.coordinator.signals.signals import Hint, Signals

Make = Callable[[], Signals]
BACKENDS: dict[str, Make] = {"in process": LocalSignals}
if importlib.util.find_spec("psycopg") is not None:
    from thinwire.coordinator.signals.postgres import PostgresSignals

    # Between the subscribers of one process the database says nothing; test_postgres has those of two.
    BACKENDS["postgres"] = lambda: PostgresSignals("postgresql://nowhere", "holder")

topics = st.sampled_from(["runs", "run:a", "run:b"])
items = st.sampled_from(["", "x", "y"])
who = st.integers(0, 2)
steps = st.lists(
    st.tuples(st.just("publish"), topics, items)
    | st.tuples(st.just("add"), who, topics)
    | st.tuples(st.just("wait"), who, st.none()),
    max_size=30,
)
backends = pytest.mark.parametrize("make", BACKENDS.values(), ids=BACKENDS)


@backends
@given(steps=steps)
def test_a_wait_gives_exactly_what_was_published_since_the_last_one(make: Make, steps: list[tuple]) -> None:
    async def work() -> None:
        signals = make()
        subscribed: defaultdict[int, set[str]] = defaultdict(set)
        expected: defaultdict[int, set[Hint]] = defaultdict(set)
        with signals.subscribe() as one, signals.subscribe() as two, signals.subscribe() as three:
            for step, first, second in [*steps, *(("wait", number, None) for number in range(3))]:
                if step == "publish":
                    signals.publish(first, second)
                    for number, of in subscribed.items():
                        expected[number] |= {(first, second)} if first in of else set()
                    continue
                subscription = (one, two, three)[first]
                if step == "add":
                    subscription.add(second)
                    subscribed[first].add(second)
                else:
                    wanted = expected.pop(first, set())
                    assert await subscription.wait(None if wanted else 0) == wanted
        assert signals.topics == 0

    asyncio.run(work())


@backends
def test_a_publisher_and_a_waiter_at_once_lose_nothing(make: Make) -> None:
    async def work() -> None:
        signals, heard = make(), set()

        async def publish() -> None:
            for number in range(500):
                signals.publish("run:a", str(number))
                if number % 7 == 0:
                    await asyncio.sleep(0)

        with signals.subscribe("run:a") as subscription:
            publishing = asyncio.create_task(publish())
            while len(heard) < 500:
                new = await subscription.wait()
                assert new
                assert not new & heard
                heard |= new
            await publishing
        assert heard == {("run:a", str(number)) for number in range(500)}

    asyncio.run(work())


@backends
def test_a_wait_that_is_cancelled_takes_nothing(make: Make) -> None:
    """Also where the hint comes in the moment of the cancellation."""

    async def work() -> None:
        signals = make()
        with signals.subscribe("run:a") as subscription:
            waiting = asyncio.create_task(subscription.wait())
            await asyncio.sleep(0)
            signals.publish("run:a", "x")
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            signals.publish("run:a", "y")
            heard = await subscription.wait()
        assert heard == {("run:a", "x"), ("run:a", "y")} if waiting.cancelled() else {("run:a", "y")}

    asyncio.run(work())


@backends
def test_a_wait_without_hints_ends_with_its_time_and_hears_the_next_ones(make: Make) -> None:
    async def work() -> None:
        signals = make()
        with signals.subscribe("run:a") as subscription:
            signals.publish("run:b", "x")
            assert await subscription.wait(0) == set()
            assert await subscription.wait(0.001) == set()
            signals.publish("run:a")
            assert await subscription.wait(0) == {("run:a", "")}
            assert await subscription.wait(0) == set()

    asyncio.run(work())


@backends
def test_what_was_published_before_or_after_is_not_heard(make: Make) -> None:
    async def work() -> None:
        signals = make()
        signals.publish("run:a", "before")
        subscription = signals.subscribe("run:a")
        for call in (lambda: subscription.wait(0), lambda: asyncio.to_thread(subscription.add, "run:b")):
            with pytest.raises(RuntimeError):
                await call()
        with subscription:
            signals.publish("run:a", "while")
            assert await subscription.wait(0) == {("run:a", "while")}
        signals.publish("run:a", "after")
        with pytest.raises(RuntimeError):
            await subscription.wait(0)

    asyncio.run(work())


@backends
def test_an_ended_subscription_is_forgotten(make: Make) -> None:
    """However it ended; topics named twice count once."""

    async def work() -> None:
        signals = make()
        ended = []
        for number in range(100):
            with contextlib.suppress(KeyError), signals.subscribe(f"run:{number}", "runs", "runs") as subscription:
                subscription.add(f"task:{number}")
                subscription.add("runs")
                ended.append(weakref.ref(subscription))
                raise KeyError
        del subscription
        gc.collect()
        assert signals.topics == 0
        assert [reference() for reference in ended] == [None] * 100

    asyncio.run(work())
