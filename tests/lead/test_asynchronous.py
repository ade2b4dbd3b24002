"""Asynchronous runs, led without a server: answers count in the order in which they come, whichever model they began
from; and what rows say of that is enough to play the run again, bit for bit.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.coordinator.numpy_client import examples_of, noise
from tests.coordinator.served import model
from tests.lead.house import House
from tests.lead.test_leader import RUN, play, ready
from thinwire.codecs import Array
from thinwire.coordinator.objects.states import read_state
from thinwire.coordinator.records.tasks import OpenTask
from thinwire.methods.checkpoint import pack_state
from thinwire.methods.definition import define
from thinwire.methods.payloads import Part, decode_answer, encode_answer, publish
from thinwire.methods.values import Contribution, State
from thinwire.protocol.identity import broadcast_seed, client_seed
from thinwire.protocol.settings import RunSettings

NAMES = [f"client-{index}" for index in range(4)]
ONE, TWO, THREE, FOUR = NAMES
ASYNCHRONOUS: dict[str, Any] = {
    "method": "fedavg", "cohort": 2, "max-staleness": 3, "concurrency": 4, "min-clients": 4, "seed": 5,
    "uplink": "quantise(8), zstd", "best": "none",
}  # fmt: skip


def replayed(
    arrays: dict[str, Array], rounds: int, counted: Sequence[Sequence[tuple[str, int]]], **settings: Any
) -> State:
    """The state that the log of acceptances makes, by a plain loop: whose answers, to which exchange, in each."""
    definition = define(RUN, RunSettings.model_validate({**ASYNCHRONOUS, "rounds": rounds, **settings})).for_model(
        arrays
    )
    server, chains = definition.server, definition.chains("train")
    state, sent = definition.first_state(arrays), list[Part]()
    for index, found in enumerate(counted):
        task = server.task(state)
        assert task is not None
        base = sent[-1] if sent else None
        sent.append(publish(task.parts["model"], chains, base=base, seed=broadcast_seed(5, index + 1, 0)))
        total = server.reducer.zero()
        for name, begun in found:
            seed, had = client_seed(5, begun + 1, 0, name), sent[begun].arrays  # a round is one exchange
            data = encode_answer(noise(seed, task.reply), task.reply, chains.up, reference=had, seed=seed)
            told = decode_answer(data, task.reply, chains.up, reference=had, seed=seed)
            one = Contribution(0, name, examples_of(name), told, {}, index - begun)
            total = server.reducer.add(total, server.reducer.check(one))
        state = server.advance(state, total)
    return state


async def log_of(house: House, run: str) -> list[list[tuple[str, int]]]:
    """Of each exchange, from the rows: whose answers count, and to the tasks of which exchange."""
    rows = [row for exchange in await house.exchanges.of(run) for row in await house.tasks.of(run, exchange.exchange)]
    counted: list[list[tuple[str, int]]] = [[] for _ in await house.exchanges.of(run)]
    for row in rows:
        if row.state == "accepted":
            assert row.counted_in is not None
            counted[row.counted_in].append((row.client, row.exchange))
    return counted


async def counted_by(house: House, run: str, most: int) -> None:
    """Returns when so many exchanges are closed."""
    await house.until(run, lambda row: row.exchange >= most or row.finished)


def test_an_exchange_closes_at_so_many_answers_whatever_they_began_from(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        run = await ready(house, *NAMES, rounds=3, **ASYNCHRONOUS)
        first = {name: await house.task(name) for name in NAMES}
        assert {task.exchange for task in first.values()} == {0}
        for name in (ONE, TWO):
            assert await house.answer(name, first[name]) == "accepted"
        second = {name: await house.task(name, first[name].id) for name in (ONE, TWO)}
        assert {task.exchange for task in second.values()} == {1}
        # The slow ones still have the task they had, and it counts: one exchange old.
        assert (await house.task(THREE)).id == first[THREE].id
        assert await house.answer(THREE, first[THREE]) == "accepted"
        # It is asked again at once, by the exchange that is open.
        assert (await house.task(THREE, first[THREE].id)).exchange == 1
        assert await house.answer(ONE, second[ONE]) == "accepted"
        await counted_by(house, run, 2)
        assert await house.answer(FOUR, first[FOUR]) == "accepted"
        assert await house.answer(TWO, second[TWO]) == "accepted"
        row = await house.until(run, lambda row: row.finished)
        log = await log_of(house, run)
        assert log == [[(ONE, 0), (TWO, 0)], [(THREE, 0), (ONE, 1)], [(FOUR, 0), (TWO, 1)]]
        exchanges = await house.exchanges.of(run)
        assert [one.staleness for one in exchanges] == [[2], [1, 1], [0, 1, 1]]
        assert [one.answers for one in exchanges] == [2, 2, 2]
        # What was measured is of the model that was sent: two began from the second, the others from the first.
        assert [one.metrics for one in exchanges] == [{"loss": 1.0}, {"loss": 1.0}, {}]
        state = read_state(house.objects, run, 3)
        assert pack_state(state) == pack_state(replayed(model(5), 3, log))
        assert row.outcome == "completed"
        await house.led_no_more(run)
        assert house.objects.names("answers") == []
        assert {task.state for task in await house.tasks.of(run, 1)} == {"accepted", "late"}

    play(tmp_path, script)


def test_what_is_too_old_is_late_with_the_reason_and_its_client_gets_a_new_task(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        run = await ready(house, *NAMES, rounds=9, **{**ASYNCHRONOUS, "max-staleness": 1})
        slow = await house.task(FOUR)
        done: dict[str, str] = {}
        for exchange in range(2):
            for name in (ONE, TWO):
                task = await house.task(name, done.get(name, ""))
                assert task.exchange == exchange
                done[name] = task.id
                assert await house.answer(name, task) == "accepted"
        await counted_by(house, run, 2)
        assert (await house.task(FOUR, slow.id)).exchange == 2
        await house.arrive(FOUR, slow)
        assert await house.verdict(FOUR, slow) == "late"
        row = await house.tasks.get(slow.id, FOUR)
        assert (row.reason, row.detail) == (
            "stale", "it began from exchange 0, and the run takes answers up to 1 exchange old",
        )  # fmt: skip

    play(tmp_path, script)


def test_an_answer_beyond_the_buffer_waits_for_the_next_exchange(tmp_path: Path) -> None:
    async def script(house: House) -> list[list[tuple[str, int]]]:
        run = await ready(house, *NAMES, rounds=2, **ASYNCHRONOUS)
        tasks = {name: await house.task(name) for name in NAMES}
        for name in NAMES:  # all at once
            await house.arrive(name, tasks[name])
        for name in NAMES:
            assert await house.verdict(name, tasks[name]) == "accepted"
        await house.until(run, lambda row: row.finished)
        assert pack_state(read_state(house.objects, run, 2)) == pack_state(
            replayed(model(5), 2, await log_of(house, run))
        )
        return await log_of(house, run)

    log = play(tmp_path, script)
    assert [len(found) for found in log] == [2, 2]
    assert {begun for _, begun in log[1]} == {0}


@pytest.mark.parametrize(
    "settings",
    [{}, {"uplink": "delta, quantise(8), zstd"}, {"downlink": "", "max-norm": 2.0}, {"concurrency": 3}],
    ids=["quantised", "uplink delta", "plain down, bounded norms", "one too many"],
)
def test_taken_up_anywhere_it_goes_on_to_the_bits_of_its_log(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Clients answer in any order, and the process ends now and then: between two answers, and with some on their way.
    An uplink delta is read against the model that its client had, also by a process that finds it in the rows alone.
    """
    draws, rounds = random.Random(3), 6

    async def some(house: House) -> bool:
        if not await house.runs.all():
            await ready(house, *NAMES, rounds=rounds, **{**ASYNCHRONOUS, **settings})
        else:
            await house.come(*NAMES)
        for _ in range(draws.randint(1, 5)):
            asked = await open_tasks(house)
            if not asked:
                return True
            name = draws.choice(sorted(asked))
            task = asked[name]
            if draws.random() < 0.8:
                verdict = await house.answer(name, task)
                stale = (await house.tasks.get(task.id, name)).reason == "stale"
                assert verdict == "accepted" or stale or (await house.runs.get(RUN)).exchange == rounds
            else:
                await house.arrive(name, task)
        return (await house.runs.get(RUN)).finished

    for _ in range(60):
        if play(tmp_path, some):
            break

    async def look(house: House) -> None:
        log = await log_of(house, RUN)
        assert [len(found) for found in log] == [2] * rounds
        assert any(index > begun for index, found in enumerate(log) for _, begun in found)
        assert pack_state(read_state(house.objects, RUN, rounds)) == pack_state(
            replayed(model(5), rounds, log, **settings)
        )

    play(tmp_path, look)


async def open_tasks(house: House) -> dict[str, OpenTask]:
    """Who has something to do, once somebody has; nobody when the run is over."""
    with house.signals.subscribe(f"events:{RUN}", *(f"client:{name}" for name in NAMES)) as heard:
        while True:
            found = {name: task for name in NAMES if (task := await house.tasks.open_of(name)) is not None}
            asked = {
                name: task for name, task in found.items()
                if not await house.tasks.answered(RUN, task.exchange, name)
            }  # fmt: skip
            if asked or (await house.runs.get(RUN)).finished:
                return asked
            await heard.wait()
