"""The laws of one exchange, over every order of events."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from thinwire.coordinator import exchange as machine
from thinwire.coordinator.exchange import Exchange, Policy
from thinwire.protocol.identity import cohort_order

NAMES = [f"client-{index}" for index in range(7)]


class ExchangeLaws(RuleBasedStateMachine):
    """Clients come, answer, fail and vanish in any order."""

    @initialize(
        cohort=st.integers(1, 4),
        extra=st.integers(0, 2),
        missing=st.integers(0, 3),
        deadline_s=st.none() | st.just(10.0),
        same=st.booleans(),
    )
    def begin(self, cohort: int, extra: int, missing: int, deadline_s: float | None, same: bool) -> None:
        policy = Policy(cohort, cohort + extra, max(1, cohort - missing), 3, deadline_s, same)
        self.now = 0.0
        self.present: set[str] = set()
        self.exchange: Exchange = machine.begin(policy, 1, 1, self.now, NAMES[:cohort] if same else ())
        self.counted: set[str] = set()
        self.dropped = False

    @rule(name=st.sampled_from(NAMES))
    def come(self, name: str) -> None:
        self.present.add(name)

    @rule(name=st.sampled_from(NAMES))
    def leave(self, name: str) -> None:
        self.present.discard(name)

    @rule()
    def offer(self) -> None:
        before = self.exchange
        self.exchange, added = machine.offer(before, self.present)
        assert len(added) == min(before.wanted, len(machine.eligible(before, self.present)))
        assert {slot.client for slot in added} <= self.present
        assert machine.offer(self.exchange, self.present)[1] == () or self.exchange.wanted

    @rule(data=st.data())
    @precondition(lambda self: bool(self.exchange.slots))
    def answer(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.exchange.slots) - 1))
        before = self.exchange.slots[index]
        room = self.exchange.count("accepted") < self.exchange.policy.cohort
        self.exchange, verdict = machine.accept(self.exchange, index)
        expected = {"accepted": "duplicate", "refused": "refused", "late": "late"}.get(before.state)
        assert verdict == (expected or ("accepted" if room and not self.exchange.closed else "late"))
        if verdict == "accepted":
            self.counted.add(before.client)
        assert machine.accept(self.exchange, index)[1] in ("duplicate", "refused", "late")

    @rule(data=st.data())
    @precondition(lambda self: bool(self.exchange.slots))
    def refuse(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.exchange.slots) - 1))
        was = self.exchange.slots[index].state
        self.exchange = machine.refuse(self.exchange, index)
        assert self.exchange.slots[index].state == ("refused" if was == "open" else was)

    @rule(name=st.sampled_from(NAMES))
    def lose(self, name: str) -> None:
        self.exchange = machine.lose(self.exchange, name)
        assert machine.register(self.exchange, name) is None

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        match machine.due(self.exchange, self.now, present=self.present, members=set(NAMES)):
            case "close":
                accepted = self.exchange.count("accepted")
                assert accepted >= self.exchange.policy.quorum
                self.exchange = machine.close(self.exchange)
                assert self.exchange.count("open") == 0
            case "missed" if self.exchange.offers < 5 and not self.exchange.closed:
                assert self.exchange.count("accepted") < self.exchange.policy.quorum
                self.exchange = machine.again(self.exchange, self.now)

    @invariant()
    def at_most_the_cohort_counts(self) -> None:
        accepted = [slot.client for slot in self.exchange.slots if slot.state == "accepted"]
        assert len(accepted) == len(set(accepted)) <= self.exchange.policy.cohort
        assert set(accepted) == self.counted  # an accepted answer stays accepted

    @invariant()
    def no_more_are_asked_than_wanted(self) -> None:
        busy = self.exchange.count("open") + self.exchange.count("accepted")
        assert busy <= max(self.exchange.policy.asked, self.exchange.policy.cohort)

    @invariant()
    def a_client_has_one_open_slot(self) -> None:
        names = [slot.client for slot in self.exchange.slots if slot.state == "open"]
        assert len(names) == len(set(names))
        assert [slot.index for slot in self.exchange.slots] == list(range(len(self.exchange.slots)))

    @invariant()
    def the_same_cohort_is_never_refilled(self) -> None:
        if self.exchange.policy.same:
            assert len(self.exchange.slots) == self.exchange.policy.cohort


TestExchangeLaws = ExchangeLaws.TestCase


def asked(exchange: Exchange) -> list[str]:
    return [slot.client for slot in exchange.slots if slot.state == "open"]


def test_the_cohort_is_drawn_in_the_order_of_the_seed() -> None:
    exchange = machine.begin(Policy(3, 3, 3), seed=5, round_=2, now=0)
    for present in (NAMES, list(reversed(NAMES))):
        assert asked(machine.offer(exchange, present)[0]) == cohort_order(5, 2, NAMES)[:3]


def test_over_selection_closes_at_the_cohort_and_tells_the_rest_late() -> None:
    exchange, _ = machine.offer(machine.begin(Policy(2, 4, 2), 0, 1, 0), NAMES)
    assert len(asked(exchange)) == 4
    for index in (3, 0):
        exchange, verdict = machine.accept(exchange, index)
        assert verdict == "accepted"
    assert machine.due(exchange, 0, present=NAMES, members=NAMES) == "close"
    assert machine.accept(exchange, 1)[1] == "late"


def test_a_refused_client_is_replaced_and_not_asked_again_in_this_offer() -> None:
    exchange, (first,) = machine.offer(machine.begin(Policy(1, 1, 1), 0, 1, 0), NAMES[:2])
    exchange, (second,) = machine.offer(machine.refuse(exchange, first.index), NAMES[:2])
    assert {first.client, second.client} == set(NAMES[:2])
    exchange = machine.refuse(exchange, second.index)
    assert machine.offer(exchange, NAMES[:2])[1] == ()
    assert machine.due(exchange, 0, present=NAMES[:2], members=NAMES[:2]) == "missed"
    assert machine.due(exchange, 0, present=NAMES[:2], members=NAMES[:3]) == "wait"  # somebody may still come
    assert len(machine.offer(machine.again(exchange, 0), NAMES[:2])[1]) == 1


@pytest.mark.parametrize(("answers", "due"), [(0, "missed"), (1, "missed"), (2, "close"), (3, "close")])
def test_the_deadline_closes_with_a_quorum_and_fails_without(answers: int, due: str) -> None:
    exchange, _ = machine.offer(machine.begin(Policy(3, 4, 2, deadline_s=10), 0, 1, 100), NAMES)
    for index in range(answers):
        exchange, _ = machine.accept(exchange, index)
    if answers < 3:
        assert machine.due(exchange, 109.9, present=NAMES, members=NAMES) == "wait"
    assert machine.due(exchange, 110, present=NAMES, members=NAMES) == due


def test_a_new_offer_keeps_what_was_answered_and_asks_whoever_failed_last() -> None:
    exchange, _ = machine.offer(machine.begin(Policy(2, 2, 2, deadline_s=1), 0, 1, 0), NAMES[:4])
    first, second = asked(exchange)
    exchange, _ = machine.accept(exchange, 0)
    exchange = machine.again(exchange, 1)
    assert exchange.due_at == 2
    assert machine.accept(exchange, 1)[1] == "late"
    assert machine.eligible(exchange, NAMES[:4])[-1] == second
    assert first not in machine.eligible(exchange, NAMES)


def test_a_dropped_exchange_begins_anew() -> None:
    exchange, _ = machine.offer(machine.begin(Policy(2, 2, 2), 0, 1, 0), NAMES)
    exchange, _ = machine.accept(exchange, 0)
    exchange = machine.again(exchange, 0, drop=True)
    assert exchange.count("accepted") == 0
    assert exchange.wanted == 2


def test_what_could_not_be_stored_is_asked_for_again() -> None:
    exchange, _ = machine.offer(machine.begin(Policy(1, 1, 1), 0, 1, 0), NAMES)
    accepted, _ = machine.accept(exchange, 0)
    assert machine.retract(accepted, 0) == exchange
    with pytest.raises(ValueError, match="slot 0"):
        machine.retract(exchange, 0)


def test_functions_leave_their_argument_alone() -> None:
    exchange, _ = machine.offer(machine.begin(Policy(2, 2, 2), 0, 1, 0), NAMES)
    copy = replace(exchange)
    machine.accept(exchange, 0)
    machine.refuse(exchange, 0)
    machine.close(exchange)
    machine.again(exchange, 5)
    assert exchange == copy
