"""Runs: names are unique, commands are taken where the state allows, and whatever shows is an event."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.records.conftest import Records
from tests.records.house import CLOSING, MODEL, NOW, House
from thinwire.coordinator.records.leases import Lease
from thinwire.coordinator.runs.rows import RunCommand, RunRow
from thinwire.protocol.fields import RunState
from thinwire.protocol.settings import RunSettings

COMMANDS: tuple[RunCommand, ...] = get_args(RunCommand)
CHAINS = RunSettings(name="first", group="ward", rounds=3, payloads="public", deadline_s=2.5, settings={"lr": 0.1})


def create(house: House, run: str, settings: RunSettings, *, max_runs: int = 9) -> RunRow:
    return house.do(
        house.runs.create(
            run, settings, spec=b"s" * 8, parameters=20, round=1, step=2, max_runs=max_runs, now=NOW
        )
    )  # fmt: skip


def test_a_run_is_what_was_created(house: House) -> None:
    row = create(house, "run1", CHAINS)
    assert row == RunRow(
        id="run1", name="first", group="ward", settings=CHAINS, spec=b"s" * 8, parameters=20, state="pending",
        outcome=None, reason=None, command=None, damaged=False, exchange=0, round=1, step=2, model=None,
        created_at=NOW, finished_at=None,
    )  # fmt: skip
    assert house.do(house.runs.get("run1")) == house.do(house.runs.find("first")) == row
    assert house.do(house.runs.find("run1")) == row


def test_an_id_is_found_before_a_name(house: House) -> None:
    create(house, "run1", CHAINS.model_copy(update={"name": "run2"}))
    create(house, "run2", CHAINS)
    assert house.do(house.runs.find("run2")).id == "run2"


def test_who_is_not_there_is_not_found(house: House) -> None:
    for call in (house.runs.get("run1"), house.runs.find("run1"), house.runs.command("run1", "stop")):
        assert house.records.reason(call) == "run-not-found"


@settings(max_examples=30, deadline=None)
@given(names=st.lists(st.sampled_from("abc"), min_size=1, max_size=6), most=st.integers(1, 3))
def test_a_name_is_given_once(opened: Records, names: list[str], most: int) -> None:
    """However the requests meet; and no more runs than may be."""
    opened.empty()
    house = House(opened)
    told = opened.both(
        *(
            house.runs.create(
                f"run{index}", RunSettings(name=name), spec=None, parameters=1, round=0, step=0, max_runs=most, now=NOW
            )
            for index, name in enumerate(names)
        )
    )
    taken: list[str] = []
    for name, result in zip(names, told, strict=True):
        if name in taken:
            assert result == "run-exists"
        elif len(taken) >= most:
            assert result == "too-many-requests"
        else:
            assert result.name == name
            taken.append(name)
    assert [row.name for row in house.do(house.runs.all())] == taken
    events = [house.do(house.events.after(row.id, 0, 10)) for row in house.do(house.runs.all())]
    assert [[event.kind for event in one] for one in events] == [["run"]] * len(taken)


def test_runs_are_told_by_group_and_by_whether_they_are_over(house: House) -> None:
    for number, group in enumerate(["x", "y", "x"]):
        lease = house.run(f"run{number}", group=group, now=NOW + number)
    house.do(house.runs.finish(lease, "stopped", None, None, NOW))
    assert [row.id for row in house.do(house.runs.all())] == ["run0", "run1", "run2"]
    assert [row.id for row in house.do(house.runs.of_group("x"))] == ["run0", "run2"]
    assert [row.id for row in house.do(house.runs.unfinished())] == ["run0", "run1"]


@pytest.mark.parametrize("state", ["pending", "running", "paused", "finished"])
@pytest.mark.parametrize("before", [None, *COMMANDS])
def test_a_command_is_taken_where_the_state_allows(house: House, state: RunState, before: RunCommand | None) -> None:
    lease = house.run(state=state if state != "finished" else "running")
    if before is not None and house.records.both(house.runs.command("run1", before)) == ["run-state"]:
        return  # no run stands like this
    if state == "finished":
        house.do(house.runs.finish(lease, "completed", None, None, NOW))
        before = None
    for command in COMMANDS:
        halted = state == "paused" if before is None else before != "resume"
        allowed = {"resume": halted, "pause": not halted, "stop": True}[command.split("-")[0]] and state != "finished"
        dump = house.records.dump()
        (told,) = house.records.both(house.runs.command("run1", command))
        if allowed:
            assert told == replace(told, command=command, state=state)
            assert house.do(house.runs.get("run1")) == told
            before = command
        else:
            assert told == "run-state"
            assert house.records.dump() == dump


def test_a_command_that_came_meanwhile_stays(house: House) -> None:
    lease = house.run()
    house.do(house.runs.command("run1", "pause"))
    house.do(house.runs.command("run1", "stop"))
    house.do(house.runs.set_state(lease, "paused", "by the operator", NOW, obeyed="pause"))
    row = house.do(house.runs.get("run1"))
    assert (row.state, row.reason, row.command) == ("paused", "by the operator", "stop")
    house.do(house.runs.set_state(lease, "paused", None, NOW))
    assert house.do(house.runs.get("run1")).command == "stop"
    house.do(house.runs.set_state(lease, "paused", None, NOW, obeyed="stop"))
    assert house.do(house.runs.get("run1")).command is None


def test_damage_lasts_until_it_is_said_to_be_mended(house: House) -> None:
    lease = house.run()
    for damaged, wanted in ((None, False), (True, True), (None, True), (False, False)):
        house.do(house.runs.set_state(lease, "paused", None, NOW, damaged=damaged))
        assert house.do(house.runs.get("run1")).damaged is wanted


def test_a_finished_run_leaves_its_history_and_its_model(house: House) -> None:
    house.enrol("a", "b", "c")
    lease, other = house.run("run1"), house.run("run2")
    first = house.exchange(lease, 0, "a", "b")
    house.arrive(first[0], "a")
    house.do(house.tasks.verdict(lease, first[0], "accepted", None, None, 1, NOW))
    house.do(house.exchanges.close(lease, CLOSING, 1, 0, NOW))
    open_task, answered = house.exchange(lease, 1, "a", "b")
    house.arrive(answered, "b")
    (untouched,) = house.exchange(other, 0, "c")
    for upload, task, client in (("u1", open_task, "a"), ("u2", untouched, "c")):
        house.do(house.uploads.create(upload, task, client, 80, b"d" * 32, NOW))
    house.do(house.runs.command("run1", "stop"))
    seen = house.do(house.events.last_id("run1"))

    house.do(house.runs.finish(lease, "stopped", "enough", MODEL, NOW + 5))
    row = house.do(house.runs.get("run1"))
    assert (row.state, row.outcome, row.reason, row.command) == ("finished", "stopped", "enough", None)
    assert (row.model, row.finished_at, row.exchange, row.finished) == (MODEL, NOW + 5, 1, True)
    assert [house.state(task) for task in (*first, open_task, answered)] == ["accepted", "late", "late", "late"]
    assert house.do(house.payloads.needed(Lease("run1", "", 0))) == {MODEL}
    assert house.do(house.payloads.needed(Lease("run2", "", 0))) != set()
    assert [upload.id for upload in house.do(house.uploads.all())] == ["u2"]
    assert [event.kind for event in house.do(house.events.after("run1", seen, 10))] == ["run"]
    assert [answer.task for answer in house.do(house.answers.accepted("run1", 0))] == [first[0]]
    assert house.state(untouched) == "open"
