"""A run is led from its rows to its end, without a server, under a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.coordinator.numpy_client import simulate
from tests.coordinator.served import model
from tests.lead.house import House
from thinwire.coordinator.objects.objects import answer, checkpoint, payload
from thinwire.coordinator.records.leases import Leases

ONE, TWO, THREE = "client-0", "client-1", "client-2"
RUN = "run000"


def play(folder: Path, script: Callable[[House], Awaitable[Any]]) -> Any:
    """The script's result, in a house over this folder."""

    async def inside() -> Any:
        async with House(folder).open() as house:
            return await script(house)

    return asyncio.run(inside())


async def ready(house: House, *names: str, **settings: Any) -> str:
    """A run whose clients are enrolled and wait."""
    run = await house.run(model(5), **settings)
    await house.enrol(*names)
    await house.come(*names)
    return run


def test_a_run_ends_in_the_bits_of_the_plain_loop(tmp_path: Path) -> None:
    settings = {"steps": 2, "delta": True}

    async def script(house: House) -> dict[str, Any]:
        run = await ready(house, ONE, TWO, rounds=2, settings=settings, best="none")
        done = {ONE: "", TWO: ""}
        for _ in range(4):
            for name in (TWO, ONE):
                task = await house.task(name, done[name])
                done[name] = task.id
                assert await house.answer(name, task) == "accepted"
        row = await house.until(run, lambda row: row.finished)
        assert (row.outcome, row.exchange) == ("completed", 4)
        # Nothing is left of it but its final model.
        await house.led_no_more(run)
        assert house.objects.names("answers") == []
        assert row.model is not None
        assert house.objects.names(f"payloads/{run}") == [payload(run, row.model)]
        return house.model(row)

    found = play(tmp_path, script)
    expected = simulate(model(5), 0, [[ONE, TWO]] * 4, settings, 2)
    assert list(found) == list(expected)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_run_waits_for_as_many_as_it_wants_present(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        run = await house.run(model(5), cohort=1, **{"min-clients": 2})
        await house.enrol(ONE, TWO)
        await house.come(ONE)
        assert (await house.runs.get(run)).state == "pending"
        await house.come(TWO)
        await house.until(run, lambda row: row.state == "running")

    play(tmp_path, script)


def test_whoever_is_over_selected_is_late(tmp_path: Path) -> None:
    async def script(house: House) -> list[str]:
        run = await ready(house, ONE, TWO, THREE, cohort=1, **{"over-select": 3.0, "min-clients": 3})
        tasks = {name: await house.task(name) for name in (ONE, TWO, THREE)}
        verdicts = [await house.answer(TWO, tasks[TWO])]
        await house.until(run, lambda row: row.finished)
        return [*verdicts, await house.verdict(ONE, tasks[ONE]), await house.verdict(THREE, tasks[THREE])]

    assert play(tmp_path, script) == ["accepted", "late", "late"]


def test_at_the_deadline_a_quorum_closes_and_the_rest_is_late(tmp_path: Path) -> None:
    async def script(house: House) -> str:
        run = await ready(house, ONE, TWO, quorum=1, **{"deadline-s": 60.0})
        one, two = await house.task(ONE), await house.task(TWO)
        assert await house.answer(ONE, one) == "accepted"
        house.pass_time(60.0, run)
        await house.until(run, lambda row: row.finished)
        return await house.verdict(TWO, two)

    assert play(tmp_path, script) == "late"


def test_a_missed_quorum_is_offered_again_then_the_run_pauses_and_can_go_on(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        run = await ready(house, ONE, TWO, **{"deadline-s": 60.0, "max-offers": 2})
        first = await house.task(ONE)
        house.pass_time(60.0, run)
        second = await house.task(ONE, first.id)
        house.pass_time(60.0, run)
        row = await house.until(run, lambda row: row.state == "paused")
        assert row.reason == "round 1: 0 of 2 answers after 2 offers"
        await house.command(run, "resume")
        third = await house.task(ONE, second.id)
        assert len({first.id, second.id, third.id}) == 3
        for name in (ONE, TWO):
            assert await house.answer(name, await house.task(name)) == "accepted"
        await house.until(run, lambda row: row.finished)

    play(tmp_path, script)


def test_a_dead_clients_slot_is_closed_at_the_deadline_and_another_client_asked(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        run = await house.run(model(5), cohort=1, **{"deadline-s": 60.0, "max-offers": 100})
        await house.enrol(ONE, TWO)
        await house.come(ONE)
        dead = await house.task(ONE)
        await house.come(TWO)
        house.pass_time(59.0, run)
        assert await house.tasks.open_of(TWO) is None  # while the dead one's slot is open nobody else is asked
        house.pass_time(1.0, run)
        assert await house.answer(TWO, await house.task(TWO)) == "accepted"
        assert await house.verdict(ONE, dead) == "late"
        await house.until(run, lambda row: row.finished)
        (exchange,) = await house.exchanges.of(run)
        assert (exchange.answers, exchange.offers) == (1, 2)

    play(tmp_path, script)


def test_a_method_may_go_on_without_its_quorum(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        run = await ready(house, ONE, cohort=1, settings={"give_up": True}, **{"deadline-s": 60.0})
        await house.task(ONE)
        house.pass_time(60.0, run)
        row = await house.until(run, lambda row: row.finished)
        assert row.outcome == "completed"
        (exchange,) = await house.exchanges.of(run)
        assert exchange.answers == 0

    play(tmp_path, script)


def test_a_task_that_is_declined_is_given_to_another_at_once(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        run = await house.run(model(5), cohort=1, rounds=1)
        await house.enrol(ONE, TWO)
        await house.come(ONE)
        task = await house.task(ONE)
        await house.come(TWO)
        assert await house.tasks.decline(task.id, ONE, "no memory", house.now) == run
        house.signals.publish(f"run:{run}", f"task:{task.id}")
        assert await house.answer(TWO, await house.task(TWO)) == "accepted"
        await house.until(run, lambda row: row.finished)

    play(tmp_path, script)


def test_a_slot_that_its_client_never_heard_of_lapses(tmp_path: Path) -> None:
    """It was heard before it was asked, and has ended since. Whoever heard of its task is waited for, however long."""

    async def script(house: House) -> None:
        run = await ready(house, ONE, TWO, cohort=2)
        tasks = {name: await house.task(name) for name in (ONE, TWO)}
        await house.presence.leave({ONE: False}, house.now)
        await house.presence.leave({TWO: False}, house.now + 1)
        house.pass_time(60, run)
        assert await house.verdict(ONE, tasks[ONE]) == "late"
        await house.enrol("zoe")
        await house.come("zoe")
        assert await house.answer("zoe", await house.task("zoe")) == "accepted"
        house.pass_time(3600, run)
        assert await house.answer(TWO, tasks[TWO]) == "accepted"
        await house.until(run, lambda row: row.finished)

    play(tmp_path, script)


def test_a_given_cohort_goes_on_without_whoever_never_heard_of_its_task_or_waits_and_says_so(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        run = await ready(house, ONE, TWO, settings={"steps": 2})
        tasks = {name: await house.task(name) for name in (ONE, TWO)}
        for name in (ONE, TWO):
            assert await house.answer(name, tasks[name]) == "accepted"
        again = {name: await house.task(name, tasks[name].id) for name in (ONE, TWO)}
        await house.presence.leave({ONE: False}, house.now)
        assert await house.answer(TWO, again[TWO]) == "accepted"
        house.pass_time(60, run)
        assert await house.verdict(ONE, again[ONE]) == "late"
        row = await house.until_said(run)
        assert row.reason == "round 1: 1 of 2 answers; waits for client-0 to come back"
        await house.come(ONE)
        assert await house.answer(ONE, await house.task(ONE, tasks[ONE].id)) == "accepted"
        row = await house.until(run, lambda row: row.finished)
        assert (row.outcome, row.reason) == ("completed", None)

    play(tmp_path, script)


def test_a_slot_that_its_client_never_heard_of_lapses_after_a_restart_too(tmp_path: Path) -> None:
    async def begin(house: House) -> None:
        await ready(house, ONE, TWO, cohort=2)
        for name in (ONE, TWO):
            await house.task(name)
        await house.presence.leave({ONE: False}, house.now)
        await house.presence.leave({TWO: False}, house.now + 1)  # heard of its task

    async def go_on(house: House) -> None:
        house.now += 3600
        tasks = {name: await house.task(name) for name in (ONE, TWO)}
        async with asyncio.timeout(60):
            while (await house.tasks.get(tasks[ONE].id, ONE)).state == "open":
                house.pass_time(1, RUN)
                await asyncio.sleep(0)
        # It was there after all, and has answered.
        assert await house.answer(ONE, tasks[ONE]) == "accepted"
        assert await house.answer(TWO, tasks[TWO]) == "accepted"
        await house.until(RUN, lambda row: row.finished)

    play(tmp_path, begin)
    play(tmp_path, go_on)


def test_a_run_that_stands_says_why_and_no_more_once_it_goes_on(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        run = await house.run(model(5), cohort=1, **{"min-clients": 2})
        await house.enrol(ONE, TWO, "not-there")
        await house.come(ONE)
        row = await house.until_said(run)
        assert (row.state, row.reason) == ("pending", "2 clients are needed to begin; 1 there")
        await house.come(TWO)
        for name in (ONE, TWO) if (await house.first(ONE, TWO)) == ONE else (TWO, ONE):
            task = await house.task(name)
            await house.tasks.decline(task.id, name, "no memory", house.now)
            house.signals.publish(f"run:{run}", f"task:{task.id}")
        await house.until(run, lambda row: row.state == "running" and row.reason is None)
        row = await house.until_said(run)
        assert row.state == "running"
        assert row.reason == (
            "round 1: 0 of 1 answers; nobody who is there can be asked; client-0 declined: no memory; "
            "client-1 declined: no memory"
        )
        await house.come("not-there")
        await house.task("not-there")
        await house.until(run, lambda row: row.reason is None)

    play(tmp_path, script)


def test_whoever_is_heard_again_is_asked_again(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        run = await ready(house, ONE, cohort=1)
        task = await house.task(ONE)
        await house.presence.leave({ONE: False}, house.now)
        house.pass_time(60, run)
        assert await house.verdict(ONE, task) == "late"
        await house.come(ONE)
        assert await house.answer(ONE, await house.task(ONE)) == "accepted"

    play(tmp_path, script)


def test_a_run_that_nobody_can_serve_pauses_and_says_who_declined(tmp_path: Path) -> None:
    async def script(house: House) -> str | None:
        run = await ready(house, ONE, cohort=1, **{"max-offers": 1})
        task = await house.task(ONE)
        await house.tasks.decline(task.id, ONE, "no memory", house.now)
        house.signals.publish(f"run:{run}", f"task:{task.id}")
        return (await house.until(run, lambda row: row.state == "paused")).reason

    assert play(tmp_path, script) == "round 1: 0 of 1 answers after 1 offers; client-0 declined: no memory"


def test_a_client_that_is_shut_out_is_not_waited_for(tmp_path: Path) -> None:
    """Neither while its exchange is open, nor where a given cohort names it."""

    async def script(house: House) -> None:
        run = await ready(house, ONE, TWO, quorum=1, settings={"steps": 2})
        tasks = {name: await house.task(name) for name in (ONE, TWO)}
        await house.command_later(run, "pause")
        for name, task in tasks.items():
            assert await house.answer(name, task) == "accepted"
        await house.until(run, lambda row: row.state == "paused")
        assert await house.clients.revoke(TWO, house.now, invite=False) == []
        await house.command(run, "resume")
        assert await house.answer(ONE, await house.task(ONE, tasks[ONE].id)) == "accepted"
        await house.until(run, lambda row: row.finished)

    play(tmp_path, script)


def test_an_invalid_answer_is_refused_with_its_reason_and_another_client_asked(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        run = await house.run(model(5), cohort=1, rounds=1)
        await house.enrol(ONE, TWO)
        await house.come(ONE)
        task = await house.task(ONE)
        await house.come(TWO)
        house.objects.put(answer(task.id), b"garbage", durable=False)
        await house.answers.arrive(task.id, ONE, 1, {}, b"\0" * 32, 7, house.now)
        house.signals.publish(f"run:{run}", f"answer:{task.id}")
        assert await house.verdict(ONE, task) == "refused"
        row = await house.tasks.get(task.id, ONE)
        assert row.reason == "payload-invalid"
        assert await house.answer(TWO, await house.task(TWO)) == "accepted"
        await house.until(run, lambda row: row.finished)

    play(tmp_path, script)


@pytest.mark.parametrize("drop", [False, True])
def test_pause_waits_for_the_open_exchange_or_drops_it(tmp_path: Path, drop: bool) -> None:
    async def script(house: House) -> None:
        run = await ready(house, ONE, TWO, rounds=2)
        one, two = await house.task(ONE), await house.task(TWO)
        assert await house.answer(ONE, one) == "accepted"
        if drop:
            await house.command(run, "pause-drop")
            assert await house.verdict(TWO, two) == "late"
            assert await house.verdict(ONE, one) == "late"
        else:
            await house.command_later(run, "pause")
            assert await house.answer(TWO, two) == "accepted"
        row = await house.until(run, lambda row: row.state == "paused")
        assert (row.exchange, row.reason) == (0 if drop else 1, "by the operator")
        assert house.objects.names("answers") == []
        await house.command(run, "resume")
        for _ in range(2 if drop else 1):
            tasks = {ONE: await house.task(ONE, one.id), TWO: await house.task(TWO, two.id)}
            # Only who was told that its answer counts has something to take back, and only until the next one counts.
            told = {name: task.dropped for name, task in tasks.items()}
            assert told == {ONE: one.id if drop and tasks[ONE].exchange == 0 else None, TWO: None}
            for name, task in tasks.items():
                assert await house.answer(name, task) == "accepted"
            one, two = tasks[ONE], tasks[TWO]
        await house.until(run, lambda row: row.finished)

    play(tmp_path, script)


@pytest.mark.parametrize("drop", [False, True])
def test_stop_waits_for_the_open_exchange_or_drops_it(tmp_path: Path, drop: bool) -> None:
    async def script(house: House) -> None:
        run = await ready(house, ONE, cohort=1, rounds=5)
        task = await house.task(ONE)
        if drop:
            await house.command(run, "stop-drop")
        else:
            await house.command_later(run, "stop")
            assert await house.answer(ONE, task) == "accepted"
        row = await house.until(run, lambda row: row.finished)
        assert (row.outcome, row.exchange) == ("stopped", 0 if drop else 1)
        assert await house.verdict(ONE, task) == ("late" if drop else "accepted")

    play(tmp_path, script)


def test_two_runs_share_a_client_one_task_at_a_time(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        first = await house.run(model(5), cohort=1, name="first")
        await house.enrol(ONE)
        await house.come(ONE)
        task = await house.task(ONE)
        second = await house.run(model(5), cohort=1, name="second")
        await house.until(second, lambda row: row.state == "running")
        assert await house.tasks.of(second, 0) == []
        assert await house.answer(ONE, task) == "accepted"
        await house.until(first, lambda row: row.finished)
        await house.come(ONE)
        assert await house.answer(ONE, await house.task(ONE, task.id)) == "accepted"
        await house.until(second, lambda row: row.finished)

    play(tmp_path, script)


def test_whoever_takes_a_run_up_again_ends_in_the_same_bits(tmp_path: Path) -> None:
    """Stopped with one answer of two accepted and a second one stored that nobody has decided on."""
    settings = {"steps": 2, "delta": True}

    async def first(house: House) -> None:
        await ready(house, ONE, TWO, rounds=1, settings=settings)
        assert await house.answer(ONE, await house.task(ONE)) == "accepted"
        two = await house.task(TWO)
        assert house.leadership is not None
        await house.leadership.stop()
        await house.arrive(TWO, two)

    async def second(house: House) -> dict[str, Any]:
        run = RUN
        await house.until(run, lambda row: row.exchange == 1)
        for name in (ONE, TWO):
            await house.answer(name, await house.task(name))
        return house.model(await house.until(run, lambda row: row.finished))

    play(tmp_path, first)
    found = play(tmp_path, second)
    expected = simulate(model(5), 0, [[ONE, TWO]] * 2, settings, 1)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_what_a_coarse_broadcast_lost_is_not_forgotten_by_a_restart(tmp_path: Path) -> None:
    """Two unbiased bits: shortened against the broadcast before, which is all that the server remembers of its loss."""
    coarse: dict[str, Any] = {"settings": {"steps": 1}, "rounds": 4, "downlink": "delta, quantise(2), entropy"}

    async def begin(house: House) -> None:
        await ready(house, ONE, TWO, **coarse)

    async def one_round(house: House) -> None:
        exchange = (await house.runs.get(RUN)).exchange
        await house.come(ONE, TWO)
        for name in (ONE, TWO):
            assert await house.answer(name, await house.task(name)) == "accepted"
        await house.until(RUN, lambda row: row.exchange > exchange)

    async def the_rest(house: House) -> dict[str, Any]:
        while (await house.runs.get(RUN)).exchange < coarse["rounds"]:
            await one_round(house)
        return house.model(await house.until(RUN, lambda row: row.finished))

    play(tmp_path / "killed", begin)
    for _ in range(3):
        play(tmp_path / "killed", one_round)
    killed = play(tmp_path / "killed", the_rest)
    play(tmp_path / "quiet", begin)
    quiet = play(tmp_path / "quiet", the_rest)
    for name in quiet:
        np.testing.assert_array_equal(killed[name], quiet[name])


def test_a_run_whose_checkpoint_is_damaged_waits_until_it_is_whole_or_stopped(tmp_path: Path) -> None:
    async def begin(house: House) -> None:
        await ready(house, ONE, cohort=1)
        await house.task(ONE)

    async def damaged(house: House) -> None:
        row = await house.until(RUN, lambda row: row.damaged)
        assert row.state == "paused"
        assert "storage-failed" in (row.reason or "")
        await house.command(RUN, "resume")
        assert (await house.runs.get(RUN)).damaged
        path.write_bytes(whole)
        await house.command(RUN, "resume")
        row = await house.until(RUN, lambda row: row.state == "running")
        assert not row.damaged
        assert await house.answer(ONE, await house.task(ONE)) == "accepted"
        await house.until(RUN, lambda row: row.finished)

    play(tmp_path, begin)
    path = tmp_path / checkpoint(RUN, 0)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    play(tmp_path, damaged)


def test_a_damaged_run_can_be_stopped(tmp_path: Path) -> None:
    async def begin(house: House) -> None:
        await ready(house, ONE, cohort=1)
        await house.task(ONE)

    async def damaged(house: House) -> None:
        await house.until(RUN, lambda row: row.damaged)
        await house.command(RUN, "stop")
        row = await house.until(RUN, lambda row: row.finished)
        assert (row.outcome, row.model) == ("stopped", None)

    play(tmp_path, begin)
    (tmp_path / checkpoint(RUN, 0)).write_bytes(b"")
    play(tmp_path, damaged)


def test_a_leader_whose_lease_is_lost_writes_nothing_any_more(tmp_path: Path) -> None:
    async def script(house: House) -> None:
        run = await ready(house, ONE, cohort=1)
        task = await house.task(ONE)
        assert await Leases(house.database).acquire(run, "another", None) is not None
        await house.arrive(ONE, task)
        await house.command_later(run, "stop-drop")
        await house.led_no_more(run)
        assert (await house.tasks.get(task.id, ONE)).state == "open"
        assert (await house.runs.get(run)).state == "running"

    play(tmp_path, script)


def test_a_given_cohort_that_was_offered_again_is_asked_after_a_crash_before_its_tasks(tmp_path: Path) -> None:
    async def begin(house: House) -> None:
        run = await ready(house, ONE, TWO, settings={"steps": 2}, **{"deadline-s": 60.0})
        tasks = {name: await house.task(name) for name in (ONE, TWO)}
        for name, task in tasks.items():
            assert await house.answer(name, task) == "accepted"
        again = await house.task(ONE, tasks[ONE].id)
        assert await house.answer(ONE, again) == "accepted"
        late = await house.task(TWO, tasks[TWO].id)
        assert house.leadership is not None
        await house.leadership.stop()
        # What a leader has written when it dies between the offer and its tasks.
        lease = await Leases(house.database).acquire(run, "another", None)
        assert lease is not None
        await house.exchanges.renew(lease, 1, 2, 60.0, [late.id], drop=False, now=house.now)

    async def go_on(house: House) -> None:
        assert await house.answer(TWO, await house.task(TWO)) == "accepted"
        await house.until(RUN, lambda row: row.finished)

    play(tmp_path, begin)
    play(tmp_path, go_on)
