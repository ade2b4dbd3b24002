"""The laws of one exchange, over every order of events."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from thinwire.coordinator.runs.exchange import Exchange, Slot
from thinwire.coordinator.runs.policy import Policy
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
        self.exchange = Exchange.begin(policy, 1, 1, self.now, NAMES[:cohort] if same else ())
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
        wanted, eligible = self.exchange.wanted, self.exchange.eligible(self.present)
        added = self.exchange.offer(self.present)
        assert len(added) == min(wanted, len(eligible))
        assert {slot.client for slot in added} <= self.present
        assert self.exchange.offer(self.present) == []

    @rule(data=st.data())
    @precondition(lambda self: bool(self.exchange.slots))
    def answer(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.exchange.slots) - 1))
        before = self.exchange.slots[index]
        room = self.exchange.count("accepted") < self.exchange.policy.cohort
        missed = before.lapsed and before.offer == self.exchange.offers and self.exchange.wanted > 0
        verdict = self.exchange.accept(index, before.offer)
        expected = {"accepted": "duplicate", "refused": "refused", "late": "late"}.get(before.state)
        expected = None if missed else expected
        assert verdict == (expected or ("accepted" if room and not self.exchange.closed else "late"))
        if verdict == "accepted":
            self.counted.add(before.client)
        assert self.exchange.accept(index, before.offer) in ("duplicate", "refused", "late")
        assert self.exchange.accept(index, before.offer + 1) == "late"

    @rule(data=st.data())
    @precondition(lambda self: bool(self.exchange.slots))
    def refuse(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.exchange.slots) - 1))
        was = self.exchange.slots[index].state
        self.exchange.refuse(index)
        assert self.exchange.slots[index].state == ("refused" if was == "open" else was)

    @rule(name=st.sampled_from(NAMES))
    def lose(self, name: str) -> None:
        self.exchange.lose(name)
        assert self.exchange.open_slot(name) is None

    @rule(name=st.sampled_from(NAMES))
    def lapse(self, name: str) -> None:
        slot = self.exchange.open_slot(name)
        self.exchange.lapse(name)
        assert self.exchange.open_slot(name) is None
        if slot is not None:
            assert name in self.exchange.eligible(NAMES)
            assert (name in self.exchange.absent) == self.exchange.policy.same

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        match due(self.exchange, self.now, self.present, NAMES):
            case "close":
                accepted = self.exchange.count("accepted")
                assert accepted >= self.exchange.policy.quorum
                self.exchange.close()
                assert self.exchange.count("open") == 0
            case "missed" if self.exchange.offers < 5 and not self.exchange.closed:
                assert self.exchange.count("accepted") < self.exchange.policy.quorum
                self.exchange.again(self.now)

    @invariant()
    def what_is_kept_count_of_is_what_the_slots_say(self) -> None:
        states = [slot.state for slot in self.exchange.slots]
        for state in ("open", "accepted", "refused", "late"):
            assert self.exchange.count(state) == states.count(state)
        for name in NAMES:
            mine = [slot for slot in self.exchange.slots if slot.client == name and slot.state == "open"]
            assert [self.exchange.open_slot(name)] == (mine or [None])

    @invariant()
    def whoever_takes_it_up_from_its_slots_finds_the_same(self) -> None:
        old = self.exchange
        found = Exchange(old.policy, 1, 1, due_at=old.due_at, slots=old.slots, offers=old.offers)
        assert found.eligible(NAMES) == old.eligible(NAMES)
        if not old.closed:
            assert found.wanted == old.wanted
            assert due(found, self.now, self.present, NAMES) == due(old, self.now, self.present, NAMES)

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


def due(exchange: Exchange, now: float, present: Iterable[str], members: Iterable[str]) -> str:
    """What is to be done, for whoever looks who is there only where it matters."""
    if not exchange.depends_on_people(now):
        return exchange.due(now)
    askable = bool(exchange.wanted and exchange.eligible(present))
    return exchange.due(now, askable=askable, reachable=bool(exchange.eligible(members)))


TestExchangeLaws = ExchangeLaws.TestCase


def asked(exchange: Exchange) -> list[str]:
    return [slot.client for slot in exchange.slots if slot.state == "open"]


def test_the_cohort_is_drawn_in_the_order_of_the_seed() -> None:
    for present in (NAMES, list(reversed(NAMES))):
        exchange = Exchange.begin(Policy(3, 3, 3), seed=5, round_=2, now=0)
        exchange.offer(present)
        assert asked(exchange) == cohort_order(5, 2, NAMES)[:3]


def test_over_selection_closes_at_the_cohort_and_tells_the_rest_late() -> None:
    exchange = Exchange.begin(Policy(2, 4, 2), 0, 1, 0)
    assert len(exchange.offer(NAMES)) == 4
    for index in (3, 0):
        assert exchange.accept(index, 1) == "accepted"
    assert due(exchange, 0, NAMES, NAMES) == "close"
    assert exchange.accept(1, 1) == "late"


def test_a_refused_client_is_replaced_and_not_asked_again_in_this_offer() -> None:
    exchange = Exchange.begin(Policy(1, 1, 1), 0, 1, 0)
    (first,) = exchange.offer(NAMES[:2])
    exchange.refuse(first.index)
    (second,) = exchange.offer(NAMES[:2])
    assert {first.client, second.client} == set(NAMES[:2])
    exchange.refuse(second.index)
    assert exchange.offer(NAMES[:2]) == []
    assert due(exchange, 0, NAMES[:2], NAMES[:2]) == "missed"
    assert due(exchange, 0, NAMES[:2], NAMES[:3]) == "wait"  # somebody may still come
    exchange.again(0)
    assert len(exchange.offer(NAMES[:2])) == 1


@pytest.mark.parametrize(("answers", "expected"), [(0, "missed"), (1, "missed"), (2, "close"), (3, "close")])
def test_the_deadline_closes_with_a_quorum_and_fails_without(answers: int, expected: str) -> None:
    exchange = Exchange.begin(Policy(3, 4, 2, deadline_s=10), 0, 1, 100)
    exchange.offer(NAMES)
    for index in range(answers):
        exchange.accept(index, 1)
    if answers < 3:
        assert due(exchange, 109.9, NAMES, NAMES) == "wait"
    assert due(exchange, 110, NAMES, NAMES) == expected


def test_a_new_offer_keeps_what_was_answered_and_asks_whoever_failed_last() -> None:
    exchange = Exchange.begin(Policy(2, 2, 2, deadline_s=1), 0, 1, 0)
    exchange.offer(NAMES[:4])
    first, second = asked(exchange)
    exchange.accept(0, 1)
    assert [slot.client for slot in exchange.unanswered()] == [second]
    exchange.again(1)
    assert exchange.due_at == 2
    assert exchange.accept(1, 1) == "late"
    assert exchange.eligible(NAMES[:4])[-1] == second
    assert first not in exchange.eligible(NAMES)


def test_a_dropped_exchange_begins_anew() -> None:
    exchange = Exchange.begin(Policy(2, 2, 2), 0, 1, 0)
    exchange.offer(NAMES)
    exchange.accept(0, 1)
    assert len(exchange.unanswered(drop=True)) == 2
    exchange.again(0, drop=True)
    assert exchange.count("accepted") == 0
    assert exchange.wanted == 2


def test_an_answer_to_an_older_offer_of_a_given_cohort_is_late() -> None:
    exchange = Exchange.begin(Policy(2, 2, 2, same=True), 0, 1, 0, NAMES[:2])
    exchange.accept(0, 1)
    exchange.again(0, drop=True)
    assert [slot.offer for slot in exchange.slots] == [2, 2]
    assert exchange.accept(0, 1) == "late"
    assert not exchange.retract(0, 1)
    assert exchange.accept(0, 2) == "accepted"


def test_what_could_not_be_stored_is_asked_for_again() -> None:
    exchange = Exchange.begin(Policy(1, 1, 1), 0, 1, 0)
    exchange.offer(NAMES)
    before = list(exchange.slots)
    exchange.accept(0, 1)
    assert exchange.retract(0, 1)
    assert exchange.slots == before
    assert not exchange.retract(0, 1)


def test_an_answer_costs_the_same_in_a_large_cohort() -> None:
    """Counted in slots that are made, not in time: of ten thousand one answer makes one."""
    exchange = Exchange.begin(Policy(10_000, 10_000, 10_000), 0, 1, 0)
    exchange.offer(f"client-{index}" for index in range(10_000))
    before = list(exchange.slots)
    exchange.accept(5, 1)
    changed = [index for index, slot in enumerate(exchange.slots) if slot is not before[index]]
    assert changed == [5]
    assert exchange.slots[5] == Slot(5, before[5].client, 1, "accepted")


@pytest.mark.parametrize("same", [False, True])
def test_an_answer_of_whoever_was_taken_for_absent_counts_while_its_place_is_free(same: bool) -> None:
    exchange = Exchange.begin(Policy(2, 2, 2, same=same), 0, 1, 0, NAMES[:2])
    exchange.offer(NAMES[:2])
    first, second = exchange.slots
    exchange.lapse(first.client)
    exchange.offer(NAMES[2:])  # none of whom a given cohort asks
    assert exchange.accept(first.index, 1) == ("accepted" if same else "late")
    exchange.lapse(second.client)
    assert exchange.due(0) == "wait"
    (back,) = exchange.offer([second.client])
    assert (back.index, back.client) == (second.index, second.client)
    assert exchange.accept(back.index, 1) == "accepted"


def test_a_given_cohort_closes_without_those_who_are_not_there_where_enough_answer() -> None:
    for quorum, expected in ((1, "close"), (2, "wait")):
        exchange = Exchange.begin(Policy(3, 3, quorum, same=True), 0, 1, 0, NAMES[:3])
        exchange.accept(0, 1)
        for index in (1, 2):
            exchange.lapse(exchange.slots[index].client)
        assert exchange.due(0) == expected
    exchange.offer([exchange.slots[1].client])
    exchange.refuse(1)
    assert exchange.due(0) == "wait"
    exchange.lapse(exchange.slots[1].client)
    exchange.offer([exchange.slots[2].client])
    exchange.refuse(2)
    assert exchange.due(0) == "missed", "nobody is left who could make it enough"
