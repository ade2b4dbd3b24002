"""Answers: the first that arrives whole is the task's answer, however often it is sent."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import insert

from tests.records.house import NOW, House
from thinwire.coordinator.records.presence import Presence
from thinwire.coordinator.records.tables import presence
from thinwire.coordinator.runs.rows import AnswerRow


def test_an_answer_arrives_once(house: House) -> None:
    house.enrol("a", "b")
    lease = house.run()
    house.exchange(lease)
    task, other = house.ask(lease, 0, "a", "b", offer=3)
    first = house.answers.arrive(task, "a", 10, {"loss": 0.5}, b"x" * 32, 80, NOW)
    again = house.answers.arrive(task, "a", 99, {}, b"y" * 32, 1, NOW + 1)
    rows = house.records.both(first, again)
    assert rows == [house.do(house.tasks.get(task, "a"))] * 2
    assert rows[0].state == "open"
    house.do(house.answers.arrive(task, "a", 99, {}, None, 0, NOW + 2, durable=True))
    wanted = AnswerRow(task, "a", 0, 3, 10, {"loss": 0.5}, b"x" * 32, 80, "open")
    assert house.do(house.answers.undecided("run1", 0)) == [wanted]
    assert house.do(house.answers.accepted("run1", 0)) == []

    house.do(house.tasks.verdict(lease, task, "accepted", None, None, 1, NOW))
    told = house.do(house.answers.arrive(task, "a", 99, {}, None, 0, NOW + 3))
    assert told.state == "accepted"
    assert house.do(house.answers.accepted("run1", 0)) == [replace(wanted, state="accepted")]
    assert house.do(house.answers.undecided("run1", 0)) == []

    house.do(house.tasks.verdict(lease, other, "refused", "answer-invalid", "no", 1, NOW))
    refused = house.do(house.answers.arrive(other, "b", 1, {}, None, 0, NOW))
    assert (refused.state, refused.reason, refused.detail) == ("refused", "answer-invalid", "no")
    assert house.do(house.answers.undecided("run1", 0)) == []


def test_an_answer_without_a_payload_is_one(house: House) -> None:
    house.enrol("a")
    (task,) = house.exchange(house.run(), 0, "a")
    house.do(house.answers.arrive(task, "a", 1, {}, None, 0, NOW))
    (row,) = house.do(house.answers.undecided("run1", 0))
    assert (row.digest, row.size, row.metrics) == (None, 0, {})


def test_an_answer_that_was_lost_may_be_sent_again(house: House) -> None:
    house.enrol("a")
    lease = house.run()
    (task,) = house.exchange(lease, 0, "a")
    assert not house.do(house.answers.withdraw(task))
    house.arrive(task, "a", examples=1)
    assert house.do(house.answers.withdraw(task))
    assert house.do(house.answers.undecided("run1", 0)) == []
    house.arrive(task, "a", examples=2)
    house.do(house.tasks.verdict(lease, task, "accepted", None, None, 1, NOW))
    assert not house.do(house.answers.withdraw(task))
    house.do(house.tasks.verdict(lease, task, "open", None, None, 0, NOW))
    house.arrive(task, "a", examples=3)
    assert [row.examples for row in house.do(house.answers.undecided("run1", 0))] == [3]


def test_answers_wait_in_the_order_in_which_they_came(house: House) -> None:
    names = [f"c{index}" for index in range(700)]
    house.enrol(*names)
    lease, other = house.run("run1"), house.run("run2")
    tasks = house.exchange(lease, 0, *names)
    (elsewhere,) = house.exchange(other, 0, "c0")
    house.arrive(elsewhere, "c0")
    calls = [
        house.answers.arrive(task, name, 1, {}, None, 0, NOW - slot)
        for slot, (task, name) in enumerate(zip(tasks, names, strict=True))
    ]
    house.records.both(*calls)

    def waiting(among: list[str] | None) -> list[str]:
        return [row.task for row in house.do(house.answers.undecided("run1", 0, among))]

    assert waiting(None) == tasks[::-1]
    assert waiting(tasks[:2]) == [tasks[1], tasks[0]]
    assert waiting(tasks[:600]) == tasks[:600][::-1]
    assert waiting([]) == waiting(["none", elsewhere]) == []


def test_whoever_answers_is_there(house: House) -> None:
    house.enrol("a", "b")
    lease = house.run()
    answered, declined = house.exchange(lease, 0, "a", "b")
    rows = [
        {"client": name, "spec": None, "holds": {"run0": 7}, "seen_at": NOW, "parked": False, "gone": True}
        for name in "ab"
    ]
    house.records.write(insert(presence).values(rows))
    house.arrive(answered, "a", now=NOW + 5)
    house.do(house.tasks.decline(declined, "b", "", NOW + 6))
    for name, at, holds in (("a", NOW + 5, {"run0": 7, "run1": 0}), ("b", NOW + 6, {"run0": 7})):
        seen = house.do(Presence(house.records.database).get(name))
        assert seen is not None
        assert (seen.seen_at, seen.gone, seen.holds) == (at, False, holds)
