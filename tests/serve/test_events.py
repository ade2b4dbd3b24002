"""Events of a run: all of them, in order, once, and from where the reader was cut off."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, NamedTuple

import pytest

from tests.serve.conftest import Play
from tests.serve.house import House
from thinwire.coordinator.serve import events as module
from thinwire.protocol.reasons import ProblemError

Stage = Callable[[Play], None]


class Told(NamedTuple):
    """One event."""

    number: int
    kind: str
    data: dict[str, Any]


def told(text: bytes) -> Told:
    fields = dict(line.split(": ", 1) for line in text.decode().strip().split("\n"))
    return Told(int(fields["id"]), fields["event"], json.loads(fields["data"]))


def anybody() -> None:
    """May read."""


def stream(house: House, last: int | None = None, may_read: Callable[[], None] = anybody) -> AsyncIterator[bytes]:
    return house.events.of("run001", last, may_read)


async def story(house: House) -> list[str]:
    """A run of one exchange; what is told of it."""
    ann = await house.enrol("ann")
    await house.exchange()
    task = await house.ask(ann)
    await house.answer_rows.arrive(task, "ann", 1, {}, None, 0, house.now)
    await house.decide(task, "accepted")
    await house.close()
    await house.finish()
    return ["answer", "exchange"]


def test_everything_is_told_once_and_it_ends_with_the_run(play: Stage) -> None:
    async def act(house: House) -> None:
        await house.run()
        reading = asyncio.create_task(collect(stream(house)))
        while house.signals.topics == 0 or not any(t.startswith("events:") for t in house.signals._listening):
            await asyncio.sleep(0)
        wanted = await story(house)
        found = await reading
        assert (found[0].kind, found[0].data["state"]) == ("run", "running")
        assert (found[-1].kind, found[-1].data["state"]) == ("run", "finished")
        assert [one.kind for one in found if one.kind != "run"] == wanted
        answer, exchange = (one.data for one in found if one.kind != "run")
        assert answer == {"exchange": 0, "answers": 1}
        assert (exchange["exchange"], exchange["metrics"]) == (0, {"loss": 0.5})
        numbers = [one.number for one in found]
        assert numbers == sorted(numbers)

    play(act)


async def collect(stream: AsyncIterator[bytes]) -> list[Told]:
    return [told(text) async for text in stream if text != module.HEARTBEAT]


def test_whoever_was_cut_off_goes_on_behind_the_last(play: Stage) -> None:
    async def act(house: House) -> None:
        await house.run()
        first = await house.events._rows.last_id("run001")
        wanted = await story(house)
        everything = [one for one in await collect(stream(house, first)) if one.kind != "run"]
        assert [one.kind for one in everything] == wanted
        for seen, one in enumerate(everything, 1):
            rest = [other for other in await collect(stream(house, one.number)) if other.kind != "run"]
            assert rest == everything[seen:]
        assert [one.kind for one in await collect(stream(house))] == ["run"]

    play(act)


def test_a_trouble_is_told_though_it_is_no_event(play: Stage) -> None:
    async def act(house: House) -> None:
        await house.run()
        async with aclosing(stream(house)) as reading:  # type: ignore[type-var]
            assert "reason" not in told(await anext(reading)).data
            house.troubles.note("run001", "answers", ProblemError("storage-full"))
            house.signals.publish("events:run001")
            assert told(await anext(reading)).data["reason"].startswith("storage-full")

    play(act)


@pytest.mark.parametrize("how", ["token", "stop"])
def test_it_ends_when_the_reader_may_not_or_the_process_does(play: Stage, how: str) -> None:
    async def act(house: House) -> None:
        await house.run()
        shut_out = False

        def may_read() -> None:
            if shut_out:
                raise ProblemError("token-invalid")

        async with aclosing(stream(house, None, may_read)) as reading:  # type: ignore[type-var]
            await anext(reading)
            shut_out = how == "token"
            house.signals.publish("access" if how == "token" else "stop", "ann" if how == "token" else "")
            assert await anext(reading, None) is None

    play(act)


def test_a_silent_run_is_heard_of(play: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", 0.01)

    async def act(house: House) -> None:
        await house.run()
        async with aclosing(stream(house)) as reading:  # type: ignore[type-var]
            await anext(reading)
            assert await anext(reading) == module.HEARTBEAT

    play(act)
