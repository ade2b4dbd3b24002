"""Exchanges: opened and opened again, offered again, closed for good; what closing leaves is what is still needed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.records.house import CLOSING, DELTA, MODEL, NOW, OPENED, PART, PLAN, PRIVATE, House
from thinwire.coordinator.records.tasks import NewTask


def kinds(house: House, run: str) -> list[str]:
    seen = house.do(house.events.after(run, 0, 1000))
    return [event.kind for event in seen]


def test_an_exchange_is_what_was_opened(house: House) -> None:
    lease = house.run()
    before = kinds(house, "run1")
    assert house.do(house.exchanges.get("run1", 0)) is None
    house.exchange(lease)
    assert house.do(house.exchanges.get("run1", 0)) == OPENED
    assert house.do(house.exchanges.of("run1")) == [OPENED]
    named = house.do(house.payloads.of("run1", 0))
    assert {one.digest: one.kind for one in named} == {PLAN: "plan", PART: "part", DELTA: "part"}
    assert kinds(house, "run1") == [*before, "run"]


def test_opened_again_it_takes_the_place_of_the_one_before(house: House) -> None:
    """A crash came before its first task; what was made for one client alone keeps its name."""
    lease = house.run()
    house.enrol("a")
    house.exchange(lease)
    task = NewTask("task", 0, 1, "a", [PRIVATE.hex(), 8, {}])
    house.do(house.tasks.offer(lease, 0, [task]))
    again = replace(OPENED, plan=MODEL, size=3, options=None, left_s=None, opened_at=NOW + 9)
    house.do(house.exchanges.open(lease, again, [DELTA], NOW))
    assert house.do(house.exchanges.of("run1")) == [again]
    named = house.do(house.payloads.of("run1", 0))
    assert {one.digest: one.kind for one in named} == {MODEL: "plan", DELTA: "part", PRIVATE: "private"}


@pytest.mark.parametrize("drop", [False, True])
def test_the_next_offer_leaves_accepted_answers_unless_they_are_dropped(house: House, drop: bool) -> None:
    house.enrol(*"abcde")
    lease = house.run()
    accepted, waiting, refused, declined, spared = house.exchange(lease, 0, *"abcde")
    for task, client in ((accepted, "a"), (waiting, "b"), (refused, "c"), (spared, "e")):
        house.arrive(task, client)
    house.do(house.tasks.verdict(lease, accepted, "accepted", None, None, 1, NOW))
    house.do(house.tasks.verdict(lease, refused, "refused", "answer-invalid", "no", 1, NOW))
    house.do(house.tasks.decline(declined, "d", "too large", NOW))

    late = [waiting, declined, refused, *([accepted] if drop else [])]
    house.do(house.exchanges.renew(lease, 0, 2, 30.0, late, drop=drop, now=NOW + 7))
    row = house.do(house.exchanges.get("run1", 0))
    assert row == replace(OPENED, offers=2, left_s=30.0, seconds=7.0, clock_at=NOW + 7, answers=0 if drop else 1)
    states = [house.state(task) for task in (accepted, waiting, refused, declined, spared)]
    assert states == ["late" if drop else "accepted", "late", "refused", "late", "open"]
    rows = {task.id: task for task in house.do(house.tasks.of("run1", 0))}
    assert (rows[declined].reason, rows[declined].detail) == ("declined", "too large")
    assert rows[accepted].reason == ("dropped" if drop else None)
    assert [one.task for one in house.do(house.answers.accepted("run1", 0))] == ([] if drop else [accepted])
    # Asked again in the same exchange and offer, an answer that was dropped may come anew.
    (again,) = house.ask(lease, 0, "a", offer=2)
    house.arrive(again, "a")
    assert [one.task for one in house.do(house.answers.undecided("run1", 0, [again]))] == [again]


def test_nobody_asked_the_next_offer_is_noted(house: House) -> None:
    lease = house.run()
    house.exchange(lease)
    house.do(house.exchanges.renew(lease, 0, 2, None, [], drop=True, now=NOW))
    row = house.do(house.exchanges.get("run1", 0))
    assert row is not None
    assert (row.offers, row.left_s) == (2, None)


def test_closing_leaves_what_it_must(house: House) -> None:
    house.enrol(*"abc")
    lease, other = house.run("run1"), house.run("run2")
    (elsewhere,) = house.exchange(other, 0, "c")
    house.do(house.uploads.create("u9", elsewhere, "c", 80, b"d" * 32, NOW))
    for index in range(3):
        accepted, waiting, unanswered = tasks = house.exchange(lease, index, *"abc")
        house.arrive(accepted, "a")
        house.arrive(waiting, "b")
        house.do(house.uploads.create(f"u{index}", unanswered, "c", 80, b"d" * 32, NOW))
        house.do(house.tasks.verdict(lease, accepted, "accepted", None, None, 1, NOW))
        house.do(house.runs.set_state(lease, "running", "a reason", NOW))
        last = house.do(house.events.last_id("run1"))

        closing = replace(CLOSING, exchange=index)
        house.do(house.exchanges.close(lease, closing, index + 1, 0, NOW + 5))
        assert [house.state(task) for task in tasks] == ["accepted", "late", "late"]
        row = house.do(house.exchanges.get("run1", index))
        wanted = replace(OPENED, exchange=index, closed=True, answers=1, seconds=5.0, metrics={"loss": 0.5})
        assert row == replace(wanted, clock_at=NOW + 5, closed_at=NOW + 5)
        run = house.do(house.runs.get("run1"))
        assert (run.exchange, run.round, run.step, run.reason, run.state) == (index + 1, index + 1, 0, None, "running")
        # The answers stay, for whoever asks what became of his.
        assert [one.task for one in house.do(house.answers.accepted("run1", index))] == [accepted]
        assert house.do(house.tasks.contributors("run1", index)) == ["a"]
        # Clients may still fetch what the closed exchange named, and nothing older.
        named = [len(house.do(house.payloads.of("run1", earlier))) for earlier in range(index + 1)]
        assert named == [*[0] * index, 3]
        assert [upload.id for upload in house.do(house.uploads.all())] == ["u9"]
        told = house.do(house.events.after("run1", last, 10))
        assert [(event.kind, event.exchange) for event in told] == [("exchange", index), ("run", None)]

        dump = house.records.dump()
        house.do(house.exchanges.close(lease, closing, index + 1, 0, NOW + 9))
        assert house.records.dump() == dump  # a repeat
    assert house.state(elsewhere) == "open"


def test_clocks_are_kept_and_nothing_else(house: House) -> None:
    lease = house.run()
    house.exchange(lease)
    events = kinds(house, "run1")
    house.do(house.exchanges.save_clocks(lease, 0, 12.5, None, NOW + 12))
    assert house.do(house.exchanges.get("run1", 0)) == replace(OPENED, seconds=12.5, left_s=None, clock_at=NOW + 12)
    assert kinds(house, "run1") == events
