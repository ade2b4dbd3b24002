"""Tasks that outlive their exchange: who may still answer them, where they count, when they are too old."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.records.house import CLOSING, NOW, PART, PLAN, House
from thinwire.coordinator.records.carried import Carried
from thinwire.coordinator.records.leases import Lease
from thinwire.coordinator.runs.closed import Over
from thinwire.coordinator.runs.metrics import Told
from thinwire.protocol.reasons import ProblemError

NAMES = ("anna", "bert", "cleo", "dora")


def begun(house: House) -> tuple[Lease, list[str]]:
    """An asynchronous run that stands at exchange 2: of exchange 0 dora has not answered, of exchange 1 cleo; and
    cleo's answer to exchange 0 counts in exchange 1.
    """
    house.enrol(*NAMES)
    lease = house.run(cohort=2, **{"max-staleness": 2})
    first = house.exchange(lease, 0, *NAMES)
    for name, task in zip(NAMES[:2], first, strict=False):
        house.arrive(task, name)
        assert house.do(house.tasks.verdict(lease, task, "accepted", None, None, 1, NOW, at=0))
    house.do(house.exchanges.close(lease, replace(CLOSING, staleness=[2]), 1, 0, NOW, over=Over(-2, -1)))
    second = house.exchange(lease, 1, "anna", "cleo")
    house.arrive(first[2], "cleo", metrics={"loss": 0.25})
    house.arrive(second[0], "anna")
    for count, task in enumerate((first[2], second[0]), 1):
        assert house.do(house.tasks.verdict(lease, task, "accepted", None, None, count, NOW, at=1))
    older = {0: {"loss": 0.4}}
    figures = replace(CLOSING, exchange=1, staleness=[1, 1], older=older)
    house.do(house.exchanges.close(lease, figures, 2, 0, NOW, over=Over(-1, 0)))
    return lease, [*first, *second]


def test_a_task_outlives_its_exchange_and_counts_in_a_later_one(house: House) -> None:
    lease, tasks = begun(house)
    carried = Carried(house.records.database)
    assert [house.state(task) for task in tasks] == ["accepted"] * 3 + ["open", "accepted", "open"]
    assert [answer.task for answer in house.do(house.answers.accepted("run1", 0, oldest=0))] == tasks[:2]
    counted = house.do(house.answers.accepted("run1", 1, oldest=0))
    assert sorted((answer.client, answer.exchange) for answer in counted) == [("anna", 1), ("cleo", 0)]
    rows = house.do(house.exchanges.of("run1"))
    assert [(row.staleness, row.answers, row.metrics) for row in rows] == [
        ([2], 1, {"loss": 0.4}), ([1, 1], 1, {"loss": 0.5}),
    ]  # fmt: skip
    told = house.do(carried.told("run1", 0, 1))
    assert told == {0: [Told(10, {"loss": 0.5})] * 2 + [Told(10, {"loss": 0.25})], 1: [Told(10, {"loss": 0.5})]}
    # Who is at work still has the task, may fetch what it names, and may send as much as it says.
    task = house.do(house.tasks.open_of("dora"))
    assert task is not None
    assert (task.id, task.exchange) == (tasks[3], 0)
    assert house.do(house.tasks.asked("dora", {"run1"})) == {("run1", 0)}
    assert house.do(house.exchanges.takes_up_to("run1", 0)) == 100
    assert {name.digest for name in house.do(house.payloads.of("run1", 0))} >= {PLAN, PART}
    assert house.do(house.presence.asked(["anna", "cleo", "dora"])) == {"cleo", "dora"}
    house.exchange(lease, 2)
    assert [row.id for row in house.do(carried.of("run1", 2, 0))] == [tasks[3], tasks[5]]
    assert house.do(house.tasks.unanswered("run1", 0, 2, 10)) == ["cleo", "dora"]
    # An answer that is lost is asked for again, as long as the exchange is open in which it counts.
    house.arrive(tasks[3], "dora")
    assert [one.task for one in house.do(house.answers.undecided("run1", 2, oldest=0))] == [tasks[3]]
    assert house.do(house.tasks.verdict(lease, tasks[3], "accepted", None, None, 1, NOW, at=2))
    assert [(row.client, row.counted_in) for row in house.do(carried.of("run1", 2, 0))] == [("dora", 2), ("cleo", None)]
    assert house.do(house.tasks.verdict(lease, tasks[3], "open", None, None, 0, NOW, at=2))
    assert not house.do(house.tasks.verdict(lease, tasks[4], "open", None, None, 0, NOW, at=2))


def test_what_is_too_old_is_late_and_says_why(house: House) -> None:
    lease, tasks = begun(house)
    house.exchange(lease, 2)
    house.do(house.uploads.create("u1", tasks[3], "dora", 100, b"d" * 32, NOW))
    house.do(house.uploads.create("u2", tasks[5], "cleo", 100, b"d" * 32, NOW))
    closing = replace(CLOSING, exchange=2, answers=0)
    house.do(house.exchanges.close(lease, closing, 3, 0, NOW, over=Over(0, 1, "it began from exchange 0")))
    row = house.do(house.tasks.get(tasks[3], "dora"))
    assert (row.state, row.reason, row.detail) == ("late", "stale", "it began from exchange 0")
    assert house.state(tasks[5]) == "open"
    assert [upload.id for upload in house.do(house.uploads.all())] == ["u2"]
    assert house.do(house.exchanges.takes_up_to("run1", 0)) is None
    assert house.do(house.payloads.of("run1", 0)) == []
    assert house.do(house.payloads.of("run1", 1)) != []


def test_a_run_that_ends_waits_for_none_of_them(house: House) -> None:
    lease, tasks = begun(house)
    house.do(house.uploads.create("u1", tasks[3], "dora", 100, b"d" * 32, NOW))
    house.do(house.runs.finish(lease, "stopped", None, None, NOW))
    assert [house.state(task) for task in tasks] == ["accepted"] * 3 + ["late", "accepted", "late"]
    assert house.do(house.uploads.all()) == []


def test_from_a_backup_nothing_is_carried_on(house: House) -> None:
    """What was counted in the open exchange may be of a future that is lost, whoever asked."""
    lease, tasks = begun(house)
    house.exchange(lease, 2)
    house.arrive(tasks[3], "dora")
    assert house.do(house.tasks.verdict(lease, tasks[3], "accepted", None, None, 1, NOW, at=2))
    house.do(house.runs.begin_anew(lambda: "lineage"))
    assert [house.state(task) for task in tasks] == ["accepted"] * 3 + ["late", "accepted", "late"]
    assert house.do(Carried(house.records.database).of("run1", 2, 0)) == []
    assert [answer.task for answer in house.do(house.answers.accepted("run1", 2, oldest=0))] == []
    with pytest.raises(ProblemError, match="task-not-found"):
        house.do(house.tasks.get(tasks[3], "anna"))
