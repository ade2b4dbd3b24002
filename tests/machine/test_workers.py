"""Worker threads: what is handed over is done once, in its order, and comes back to whoever waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thinwire.machine.workers import Workers


class Large:
    """Something that is to be let go of."""


def doubled(number: int) -> int:
    if number < 0:
        raise ValueError(str(number))
    return 2 * number


@given(numbers=st.lists(st.integers(-50, 50), max_size=40), threads=st.integers(1, 4))
def test_each_gets_what_its_own_work_gave(numbers: list[int], threads: int) -> None:
    workers = Workers(threads)

    async def use() -> list[int | BaseException]:
        return await asyncio.gather(*(workers.run(doubled, one) for one in numbers), return_exceptions=True)

    for _ in range(2):  # each time on a loop of its own
        found = asyncio.run(use())
        assert [str(one) if isinstance(one, BaseException) else one for one in found] == [
            str(one) if one < 0 else 2 * one for one in numbers
        ]
    workers.close()


def test_one_thread_works_in_order_and_is_none_of_the_loop_s() -> None:
    workers, seen = Workers(1, "writer"), list[tuple[int, str]]()

    async def use() -> None:
        await asyncio.gather(
            *(workers.run(lambda one=one: seen.append((one, threading.current_thread().name))) for one in range(100))
        )

    asyncio.run(use())
    workers.close()
    assert seen == [(one, "writer_0") for one in range(100)]


def test_who_is_cancelled_waits_no_more_and_what_has_not_begun_is_not_done() -> None:
    workers, begun, go, done = Workers(1), threading.Event(), threading.Event(), list[str]()

    def slow() -> None:
        begun.set()
        go.wait(60)
        done.append("slow")

    async def use() -> None:
        waiting = [asyncio.create_task(workers.run(one)) for one in (slow, lambda: done.append("never"))]
        last = asyncio.create_task(workers.run(done.append, "last"))
        await asyncio.to_thread(begun.wait, 60)
        for task in waiting:
            task.cancel()
        for task in waiting:
            with pytest.raises(asyncio.CancelledError):
                await task
        go.set()
        await last

    asyncio.run(use())
    workers.close()
    assert done == ["slow", "last"]


def test_closing_waits_for_what_was_handed_over_and_takes_nothing_more() -> None:
    workers, done = Workers(2), list[int]()

    async def use() -> None:
        waiting = [asyncio.create_task(workers.run(done.append, one)) for one in range(50)]
        await asyncio.sleep(0)
        workers.close()
        assert sorted(done) == list(range(50))
        await asyncio.gather(*waiting)
        with pytest.raises(RuntimeError, match="closed"):
            await workers.run(done.append, 51)

    asyncio.run(use())
    assert len(done) == 50


def test_a_work_outlives_the_loop_that_asked_for_it_without_harm() -> None:
    workers, begun, go, ended = Workers(1), threading.Event(), threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        go.wait(60)
        ended.set()

    async def begin() -> None:
        task = asyncio.create_task(workers.run(slow))
        await asyncio.to_thread(begun.wait, 60)
        task.cancel()

    asyncio.run(begin())
    go.set()
    assert ended.wait(60)

    async def again() -> int:
        return await workers.run(doubled, 4)

    assert asyncio.run(again()) == 8
    workers.close()


@pytest.mark.parametrize("error", [StopIteration("x"), KeyboardInterrupt("x"), SystemExit(3)])
def test_whatever_is_raised_reaches_the_caller_and_the_thread_goes_on(error: BaseException) -> None:
    workers = Workers(1)

    def fail() -> None:
        raise error

    async def use() -> None:
        caught: BaseException | None = None
        try:
            await workers.run(fail)
        except BaseException as found:
            caught = found
        assert caught is error or (isinstance(caught, RuntimeError) and "StopIteration" in str(caught))
        assert await workers.run(doubled, 1) == 2

    asyncio.run(use())
    workers.close()


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_of_a_work_stays_while_its_thread_waits_for_the_next(*, fails: bool) -> None:
    """Without the collector: what a work held is let go of at once."""
    workers, held = Workers(1), list[weakref.ref[Large]]()

    def take(argument: Large) -> Large:
        held.append(weakref.ref(argument))
        if fails:
            raise ValueError("no")
        return argument

    async def use() -> None:
        for _ in range(3):
            with contextlib.suppress(ValueError):
                await workers.run(take, Large())
        await workers.run(doubled, 1)  # the thread has come back from the others by now
        assert [one() for one in held] == [None] * 3

    gc.disable()
    try:
        asyncio.run(use())
    finally:
        gc.enable()
    workers.close()
