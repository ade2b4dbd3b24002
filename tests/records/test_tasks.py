"""Tasks: whoever decides first has decided, whatever else comes; and a client has its one open task again and again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import pytest

from tests.records.house import CLOSING, NOW, OPENED, PRIVATE, House
from thinwire.coordinator.records.leases import Lease
from thinwire.coordinator.records.tasks import NewTask
from thinwire.coordinator.runs.rows import TaskRow

Verb = Callable[[House, Lease, str, str], Coroutine[Any, Any, Any]]
Deed = Literal["arrive", "withdraw", "accept", "refuse", "late", "reopen", "decline", "revoke", "renew", "drop"]


def deciding(state: Any) -> Verb:
    """A verdict by the leader."""
    why = ("answer-invalid", "no") if state == "refused" else (None, None)
    return lambda house, lease, task, client: house.tasks.verdict(lease, task, state, *why, 7, NOW)


def renewing(*, drop: bool) -> Verb:
    """Another offer, with which this task is late."""
    return lambda house, lease, task, client: house.exchanges.renew(lease, 0, 2, None, [task], drop=drop, now=NOW)


DEEDS: Final[dict[Deed, Verb]] = {
    "arrive": lambda house, lease, task, client: house.answers.arrive(task, client, 1, {"loss": 1.0}, None, 0, NOW),
    "withdraw": lambda house, lease, task, client: house.answers.withdraw(task),
    "accept": deciding("accepted"),
    "refuse": deciding("refused"),
    "late": deciding("late"),
    "reopen": deciding("open"),
    "decline": lambda house, lease, task, client: house.tasks.decline(task, client, "cannot", NOW),
    "revoke": lambda house, lease, task, client: house.clients.revoke(client, NOW, invite=False),
    "renew": renewing(drop=False),
    "drop": renewing(drop=True),
}


@dataclass(slots=True)
class Model:
    """What a task is after deeds done one after the other."""

    state: str = "open"
    answered: bool = False
    closed: bool = False
    why: str | None = None
    events: int = 0

    def do(self, deed: Deed) -> Any:
        """What the verb returns."""
        is_open = self.state == "open"
        match deed:
            case "arrive":
                told = self.state
                self.answered |= is_open
                return told
            case "withdraw":
                done = is_open and self.answered
                self.answered &= not done
                return done
            case "accept":
                return self._decide("accepted", is_open and self.answered)
            case "refuse":
                return self._decide("refused", is_open, "answer-invalid")
            case "late":
                return self._decide("late", is_open)
            case "reopen":
                done = self._decide("open", self.state == "accepted" and not self.closed)
                self.answered &= not done
                return done
            case "decline":
                done = self._decide("late", is_open and not self.answered, "declined")
                return "run1" if done else None
            case "revoke":
                self.state = "late" if is_open else self.state
                return ["run1"] if is_open else []
            case "renew":
                self.state = "late" if is_open else self.state
            case "drop":
                if self.state == "accepted":
                    self.why = "dropped"
                self.state = "late" if self.state in ("open", "accepted") else self.state
                self.answered = False
        return None

    def _decide(self, state: str, done: bool, why: str | None = None) -> bool:
        if done:
            self.state, self.why = state, why
            self.events += state != "late"
        return done

    def close(self) -> None:
        """The exchange is over."""
        self.closed = True
        self.state = "late" if self.state == "open" else self.state


def play(house: House, lease: Lease, parts: Sequence[Sequence[tuple[Deed, ...]]]) -> None:
    """Does to each task its deeds of the first part, in one group with those of all the others; closes the exchange;
    and so on. Each verb tells, and the rows hold, what the model does.
    """
    names = [f"c{index}" for index in range(len(parts[0]))]
    house.enrol(*names)
    ids = house.exchange(lease, 0, *names)
    models = [Model() for _ in names]
    for number, part in enumerate(parts):
        if number:
            house.do(house.exchanges.close(lease, CLOSING, 1, 0, NOW))
            for model in models:
                model.close()
        calls, wanted, whose = [], [], []
        for model, task, name, deeds in zip(models, ids, names, part, strict=True):
            for deed in deeds:
                calls.append(DEEDS[deed](house, lease, task, name))
                wanted.append(model.do(deed))
                whose.append((name, deeds))
        told = [one.state if isinstance(one, TaskRow) else one for one in house.records.both(*calls)]
        for deed, found, expected in zip(whose, told, wanted, strict=True):
            assert found == expected, deed
    rows = {task.id: task for task in house.do(house.tasks.of("run1", 0))}
    found = [(rows[task].state, rows[task].reason) for task in ids]
    for model, row, deeds in zip(models, found, zip(*parts, strict=True), strict=True):
        # A revoked or renewed task keeps the words it had.
        assert row == (model.state, model.why), deeds
    answered = [*house.do(house.answers.accepted("run1", 0)), *house.do(house.answers.undecided("run1", 0))]
    assert {answer.task for answer in answered} == {
        task for task, model in zip(ids, models, strict=True) if model.answered and model.state in ("open", "accepted")
    }
    events = house.do(house.events.after("run1", 0, 100_000))
    told_of = [event for event in events if event.kind == "answer"]
    assert len(told_of) == sum(model.events for model in models)
    assert {(event.exchange, event.answers) for event in told_of} <= {(0, 7)}


def test_whoever_decides_first_has_decided(house: House) -> None:
    """All orders of three deeds, of which one may be done again."""
    play(house, house.run(), [list(itertools.product(DEEDS, repeat=3))])


def test_an_answered_task_is_decided_once(house: House) -> None:
    deeds: list[tuple[Deed, ...]] = [("arrive", "accept", *more) for more in itertools.product(DEEDS, repeat=2)]
    deeds += [("arrive", *more) for more in itertools.product(DEEDS, repeat=2)]
    play(house, house.run(), [deeds])


def test_what_is_closed_is_decided(house: House) -> None:
    lease = house.run()
    before: list[tuple[Deed, ...]] = [(), ("arrive",), ("arrive", "accept"), ("refuse",), ("decline",), ("revoke",)]
    after = [*((deed,) for deed in DEEDS if deed != "drop"), ("arrive", "accept"), ("reopen", "arrive")]
    pairs = list(itertools.product(before, after))
    play(house, lease, [[first for first, _ in pairs], [second for _, second in pairs]])
    row = house.do(house.exchanges.get("run1", 0))
    assert row is not None
    assert row.closed
    assert row.answers == CLOSING.answers


def test_accepted_answers_are_counted(house: House) -> None:
    house.enrol("a", "b")
    lease = house.run()
    for count, (task, client) in enumerate(zip(house.exchange(lease, 0, "a", "b"), "ab", strict=True), start=1):
        house.arrive(task, client)
        assert house.do(house.tasks.verdict(lease, task, "accepted", None, None, count, NOW, durable=True))
        row = house.do(house.exchanges.get("run1", 0))
        assert row is not None
        assert row.answers == count
    assert house.do(house.tasks.verdict(lease, task, "open", None, None, 1, NOW))
    assert house.do(house.exchanges.get("run1", 0)) == replace(OPENED, answers=1)


def test_no_leader_decides_for_another_run(house: House) -> None:
    house.enrol("a")
    lease, other = house.run("run1"), house.run("run2")
    (task,) = house.exchange(lease, 0, "a")
    house.exchange(other)
    assert not house.do(house.tasks.verdict(other, task, "late", None, None, 0, NOW))
    assert house.state(task) == "open"


def test_a_task_is_its_clients_alone(house: House) -> None:
    house.enrol("a", "b")
    (task,) = house.exchange(house.run(), 0, "a")
    before = house.records.dump()
    for call in (
        house.tasks.get(task, "b"),
        house.tasks.get("none", "b"),
        house.tasks.decline(task, "b", "", NOW),
        house.answers.arrive(task, "b", 1, {}, None, 0, NOW),
        house.uploads.create("u", task, "b", 1, b"d" * 32, NOW),
    ):
        assert house.records.reason(call) == "task-not-found"
    assert house.records.dump() == before
    assert house.do(house.tasks.get(task, "a")) == TaskRow(
        task, "run1", 0, 0, 1, "a", "open", private=None, reason=None, detail=None
    )


def test_what_is_offered_again_keeps_its_state(house: House) -> None:
    """A part that is for one client alone may be added, as long as it has not answered."""
    house.enrol("a", "b")
    lease = house.run()
    house.exchange(lease)
    private = [PRIVATE.hex(), 8, {"w": 1}]
    first = [NewTask(name, slot, 1, name, None) for slot, name in enumerate("ab")]
    house.do(house.tasks.offer(lease, 0, first))
    house.do(house.tasks.decline("b", "b", "no", NOW))
    assert house.do(house.tasks.offer(lease, 0, [replace(task, private=private) for task in first])) == set()
    found = [(task.state, task.private, task.detail) for task in house.do(house.tasks.of("run1", 0))]
    assert found == [("open", private, None), ("late", None, "no")]
    named = house.do(house.payloads.named(PRIVATE))
    assert [(one.kind, one.client, one.exchange) for one in named] == [("private", "a", 0), ("private", "b", 0)]


def test_who_is_shut_out_is_not_asked(house: House) -> None:
    """Its slot is there, so that the slots of a cohort have no gap."""
    names = [f"c{index}" for index in range(1200)]
    house.enrol(*names[1:])
    house.enrol(names[0], revoked=True)
    lease = house.run()
    house.exchange(lease)
    new = [NewTask(name, slot, 1, name, None) for slot, name in enumerate(names)]
    assert house.do(house.tasks.offer(lease, 0, new)) == {"c0"}
    assert house.do(house.tasks.offer(lease, 0, [])) == set()
    states = [task.state for task in house.do(house.tasks.of("run1", 0))]
    assert states == ["late", *["open"] * 1199]


def test_a_client_gets_its_open_task_of_the_oldest_run_that_goes_on(house: House) -> None:
    house.enrol("a")
    leases = [house.run(run, now=NOW + age) for run, age in (("run2", 1), ("run1", 2), ("run0", 0))]
    assert house.do(house.tasks.open_of("a")) is None
    ids = [house.exchange(lease, 0, "a")[0] for lease in leases]

    def found() -> str | None:
        task = house.do(house.tasks.open_of("a"))
        return None if task is None else task.id

    assert found() == ids[2]
    house.do(house.runs.set_state(leases[2], "paused", None, NOW))
    assert found() == ids[0]
    house.arrive(ids[0], "a")
    assert found() == ids[0]  # until there is a verdict
    house.do(house.exchanges.close(leases[0], CLOSING, 1, 0, NOW))
    assert found() == ids[1]
    house.do(house.runs.set_state(leases[2], "running", None, NOW))
    assert found() == ids[2]
    house.do(house.runs.finish(leases[2], "stopped", None, None, NOW))
    assert found() == ids[1]
    house.do(house.tasks.decline(ids[1], "a", "", NOW))
    assert found() is None


def test_an_open_task_says_what_its_message_needs(house: House) -> None:
    house.enrol("a")
    lease = house.run()
    house.exchange(lease)
    private = [PRIVATE.hex(), 8, {"w": 1}]
    house.do(house.tasks.offer(lease, 0, [NewTask("task", 0, 1, "a", private)]))
    task = house.do(house.tasks.open_of("a"))
    assert task is not None
    said = (task.run, task.exchange, task.slot, task.offer, task.private, task.kind, task.plan, task.options)
    assert said == ("run1", 0, 0, 1, private, OPENED.kind, OPENED.plan, OPENED.options)
    assert (task.round, task.step, task.left_s, task.clock_at) == (0, 0, 60.0, NOW)


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b", "c", "d"], [f"x{index}" for index in range(2000)] + ["c"]])
def test_busy_is_who_has_an_open_task_of_another_run_that_goes_on(house: House, names: list[str]) -> None:
    house.enrol(*"abcd")
    mine, other, paused = (house.run(run) for run in ("run1", "run2", "run3"))
    house.exchange(mine, 0, "a")
    for index in range(2):
        answered, late, waiting = house.exchange(other, index, *"abc")
        house.arrive(answered, "a")
        house.do(house.tasks.verdict(other, answered, "accepted", None, None, 1, NOW))
        house.do(house.tasks.decline(late, "b", "", NOW))
        if index == 0:
            house.do(house.exchanges.close(other, CLOSING, 1, 0, NOW))
    assert house.state(waiting) == "open"
    house.exchange(paused, 0, "d")
    house.do(house.runs.set_state(paused, "paused", None, NOW))
    for client in "abcd":
        house.do(house.presence.arrive(client, None, {}, NOW))
    for run, busy in (("run1", "c"), ("run2", "a"), ("run3", "ac")):
        free = house.do(house.presence.free("default", None, ["client"], NOW, names, run))
        assert free == set("abcd").intersection(names) - set(busy)
    assert house.do(house.presence.free("default", None, ["client"], NOW, None, "run3")) == {"b", "d"}


def test_who_was_asked_lately(house: House) -> None:
    house.enrol("a", "b")
    for run in ("run1", "run2", "run3"):
        lease = house.run(run)
        for index, clients in enumerate(["ab", "ab", "b", "a"]):
            house.exchange(lease, index, *clients)
            if index < 3:
                house.do(house.exchanges.close(lease, replace(CLOSING, exchange=index), 1, 0, NOW))
    assert house.do(house.tasks.asked("a", {"run1", "run3"})) == {("run1", 3), ("run3", 3)}
    assert house.do(house.tasks.asked("b", {"run2"})) == {("run2", 2)}
    assert house.do(house.tasks.asked("b", set())) == set()


def test_whose_answers_counted(house: House) -> None:
    house.enrol(*"abcd")
    lease, other = house.run("run1"), house.run("run2")
    house.exchange(other, 0, "d")
    for client, task in zip("ba", house.exchange(lease, 0, "b", "a", "c"), strict=False):
        house.arrive(task, client)
        house.do(house.tasks.verdict(lease, task, "accepted", None, None, 1, NOW))
    assert house.do(house.tasks.contributors("run1", 0)) == ["a", "b"]
    assert house.do(house.tasks.contributors("run1", 1)) == []
