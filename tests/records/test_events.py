"""Events: their numbers rise and are never used again."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.records.conftest import Records
from tests.records.house import NOW, House
from thinwire.coordinator.records.events import Event, add_event
from thinwire.protocol.fields import EventKind


def add(house: House, run: str, kind: EventKind, now: float) -> None:
    house.do(
        house.records.database.transaction(
            lambda connection: add_event(connection, run, kind, now, exchange=3, answers=4)
        )
    )


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["x", "y"]), st.sampled_from(["add", "add", "sweep"])), max_size=20))
def test_numbers_rise_and_are_never_used_again(opened: Records, steps: list[tuple[str, str]]) -> None:
    """Not even those of events that were swept away."""
    opened.empty()
    house = House(opened)
    told: dict[str, list[int]] = {"x": [], "y": []}
    used: set[int] = set()
    for number, (run, step) in enumerate(steps):
        if step == "add":
            add(house, run, "answer", NOW + number)
            last = house.do(house.events.last_id(run))
            assert last not in used
            assert all(last > before for before in used)
            used.add(last)
            told[run].append(last)
        elif step == "sweep":
            house.do(house.events.sweep(NOW + number))
            told = {"x": [], "y": []}
            assert house.do(house.events.last_id(run)) == 0
        for of in told:
            assert [event.id for event in house.do(house.events.after(of, 0, 100))] == told[of]


def test_events_are_told_from_behind_the_last_one_seen(house: House) -> None:
    for number in range(5):
        add(house, "x", "answer", NOW + number)
        add(house, "y", "run", NOW)
    found = house.do(house.events.after("x", 0, 100))
    first = found[0].id
    assert found == [Event(first + 2 * number, "x", "answer", 3, 4, NOW + number) for number in range(5)]
    assert house.do(house.events.last_id("x")) == found[-1].id
    assert house.do(house.events.after("x", found[1].id, 2)) == found[2:4]
    assert house.do(house.events.after("x", found[-1].id, 2)) == []
    assert house.do(house.events.after("none", 0, 2)) == []


def test_only_what_is_older_goes(house: House) -> None:
    for number in range(5):
        add(house, "x", "run", NOW + number)
    kept = house.do(house.events.after("x", 0, 100))[3:]
    house.do(house.events.sweep(NOW + 3))
    assert house.do(house.events.after("x", 0, 100)) == kept


def test_a_change_that_fails_is_no_event(house: House) -> None:
    lease = house.run()
    last = house.do(house.events.last_id("run1"))
    house.records.both(house.runs.command("run1", "resume"))
    house.do(house.runs.command("run1", "pause"))  # not carried out: nothing to see
    assert house.do(house.events.last_id("run1")) == last
    house.do(house.runs.set_state(lease, "paused", None, NOW, obeyed="pause"))
    assert house.do(house.events.last_id("run1")) > last
