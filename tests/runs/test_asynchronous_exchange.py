"""The laws of the exchanges of an asynchronous run, one after the other, over every order of events."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from thinwire.coordinator.runs.exchange import Exchange, Slot
from thinwire.coordinator.runs.policy import Policy

NAMES = [f"client-{index}" for index in range(6)]


class BufferLaws(RuleBasedStateMachine):
    """Clients come, answer, fail and vanish in any order; exchanges close at so many answers."""

    @initialize(cohort=st.integers(1, 3), more=st.integers(0, 3), oldest=st.integers(1, 3))
    def begin(self, cohort: int, more: int, oldest: int) -> None:
        self.policy = Policy(cohort, cohort + more, cohort, max_staleness=oldest)
        self.index = 0
        self.exchange = Exchange.begin(self.policy, 1, 1, 0.0)
        self.at_work: dict[str, int] = {}  # client -> the exchange that asked it
        self.counted: list[tuple[str, int]] = []
        self.ever: set[tuple[str, int]] = set()

    @rule(present=st.sets(st.sampled_from(NAMES)))
    def offer(self, present: set[str]) -> None:
        for slot in self.exchange.offer(present):
            assert slot.age == 0
            assert slot.client not in self.at_work
            self.at_work[slot.client] = self.index

    @rule(name=st.sampled_from(NAMES))
    def answer(self, name: str) -> None:
        slot = self.exchange.open_slot(name)
        if slot is None:
            return
        full = len(self.counted) == self.policy.cohort
        assert self.exchange.accept(slot.index, slot.offer) == ("waits" if full else "accepted")
        if full:
            return
        self.counted.append((name, self.index - slot.age))
        del self.at_work[name]
        assert self.exchange.accept(slot.index, slot.offer) == "duplicate"

    @rule(name=st.sampled_from(NAMES), how=st.sampled_from(["lose", "lapse", "refuse"]))
    def fail(self, name: str, how: str) -> None:
        slot = self.exchange.open_slot(name)
        if slot is None:
            return
        if how == "refuse":
            self.exchange.refuse(slot.index)
        else:
            (self.exchange.lose if how == "lose" else self.exchange.lapse)(name)
        del self.at_work[name]
        if slot.age:  # it may be asked anew
            assert name in self.exchange.eligible(NAMES) or self.index in {
                begun for client, begun in self.counted if client == name
            }

    @precondition(lambda self: len(self.counted) == self.policy.cohort)
    @rule()
    def close(self) -> None:
        assert self.exchange.due(0.0) == "close"
        assert self.exchange.wanted == 0
        self.exchange.close()
        for name in self.at_work:
            slot = self.exchange.open_slot(name)
            assert slot is not None
            assert self.exchange.accept(slot.index, slot.offer) == "waits"
        assert not self.ever & set(self.counted)
        self.ever |= set(self.counted)
        carried = self.exchange.carry()
        self.index += 1
        self.at_work = {
            name: begun
            for name, begun in self.at_work.items()
            if self.index - begun <= (self.policy.max_staleness or 0)
        }
        assert {slot.client: self.index - slot.age for slot in carried} == self.at_work
        self.exchange = Exchange.begin(self.policy, 1, self.index + 1, 0.0, carried=carried)
        self.counted = []

    @invariant()
    def each_client_has_one_task(self) -> None:
        slots = [slot for slot in self.exchange.slots if slot.state == "open"]
        assert {slot.client: self.index - slot.age for slot in slots} == self.at_work
        assert len(slots) == len(self.at_work) <= self.policy.asked

    @invariant()
    def what_counts_is_kept_with_its_age(self) -> None:
        accepted = [slot for slot in self.exchange.slots if slot.state == "accepted"]
        assert sorted((slot.client, self.index - slot.age) for slot in accepted) == sorted(self.counted)
        assert len(set(self.counted)) == len(self.counted) <= self.policy.cohort
        indexes = [slot.index for slot in self.exchange.slots]
        assert len(set(indexes)) == len(indexes)

    @invariant()
    def whoever_takes_it_up_from_its_slots_finds_the_same(self) -> None:
        old = self.exchange
        found = Exchange(old.policy, 1, self.index + 1, due_at=None, slots=old.slots)
        assert found.eligible(NAMES) == old.eligible(NAMES)
        assert (found.wanted, found.carry()) == (old.wanted, old.carry())
        assert found.due(0.0, askable=True, reachable=True) == old.due(0.0, askable=True, reachable=True)


TestBufferLaws = BufferLaws.TestCase


def test_a_carried_slot_keeps_its_index_and_is_not_asked_again() -> None:
    policy = Policy(1, 2, 1, max_staleness=1)
    first = Exchange.begin(policy, 0, 1, 0.0)
    fast, slow = first.offer(NAMES[:2])
    assert first.accept(fast.index, 1) == "accepted"
    first.close()
    second = Exchange.begin(policy, 0, 2, 0.0, carried=first.carry())
    assert second.slots == [Slot(slow.index, slow.client, 1, "open", age=1)]
    assert second.eligible([slow.client]) == []
    (asked,) = second.offer([fast.client, slow.client])
    assert (asked.client, asked.age) == (fast.client, 0)
    assert asked.index != slow.index
    assert second.accept(asked.index, 1) == "accepted"
    second.close()
    assert second.carry() == []  # two exchanges old by then
