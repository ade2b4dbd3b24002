"""One exchange as a pure state machine: who is asked, whose answer counts, when it closes.

Every function returns a new `Exchange` and leaves its argument as it was; `now` is monotonic seconds. A client is
asked by getting a slot; within one offer it gets at most one. The laws:

- at most `cohort` answers are accepted, each from another client; an accepted answer stays accepted;
- a slot leaves "open" once and, but for a new offer to a cohort "same", never returns;
- as many slots are open or accepted as are wanted, while there are clients to ask;
- the same calls in the same order give the same exchange.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from thinwire.protocol.identity import cohort_order

SlotState = Literal["open", "accepted", "refused", "late"]
Due = Literal["wait", "close", "missed"]


@dataclass(frozen=True, slots=True)
class Policy:
    """`cohort`: answers it closes at; `asked` >= cohort: slots kept filled; `quorum` <= cohort: answers without which
    it has failed; `same`: the cohort is given and never refilled.
    """

    cohort: int
    asked: int
    quorum: int
    max_offers: int = 3
    deadline_s: float | None = None
    same: bool = False

    def of(self, cohort: int) -> Policy:
        """The policy of a given cohort of this size."""
        return replace(self, cohort=cohort, asked=cohort, quorum=min(self.quorum, cohort))


@dataclass(frozen=True, slots=True)
class Slot:
    """A client's fixed place in the cohort. `offer`: the offer (from 1) that asked it last."""

    index: int
    client: str
    offer: int = 1
    state: SlotState = "open"


@dataclass(frozen=True, slots=True)
class Exchange:
    """`due_at`: when the present offer ends, None for never."""

    policy: Policy
    seed: int
    round: int
    slots: tuple[Slot, ...] = ()
    offers: int = 1
    due_at: float | None = None
    closed: bool = False

    def count(self, state: SlotState) -> int:
        return sum(slot.state == state for slot in self.slots)

    @property
    def wanted(self) -> int:
        """How many more clients should be asked."""
        if self.closed or self.policy.same:
            return 0
        return max(0, self.policy.asked - self.count("open") - self.count("accepted"))

    @property
    def contributors(self) -> list[str]:
        """The clients whose answers count, sorted."""
        return sorted(slot.client for slot in self.slots if slot.state == "accepted")


def begin(policy: Policy, seed: int, round_: int, now: float, same: Collection[str] = ()) -> Exchange:
    """A new exchange. `same`: the cohort where the policy is "same"; all of it is asked at once."""
    slots: tuple[Slot, ...] = ()
    if policy.same:
        slots = tuple(Slot(index, name) for index, name in enumerate(cohort_order(seed, round_, same)))
        policy = policy.of(len(slots))
    return Exchange(policy, seed, round_, slots, 1, _due_at(policy, now))


def _due_at(policy: Policy, now: float) -> float | None:
    return None if policy.deadline_s is None else now + policy.deadline_s


def eligible(exchange: Exchange, present: Iterable[str]) -> list[str]:
    """The present clients that may still be asked in this offer, in the order in which they are."""
    tried = {slot.client for slot in exchange.slots if slot.offer == exchange.offers or slot.state == "accepted"}
    before = {slot.client for slot in exchange.slots}
    order = cohort_order(exchange.seed, exchange.round, {name for name in present if name not in tried})
    # Whoever failed an earlier offer is asked last.
    return sorted(order, key=lambda name: name in before)


def offer(exchange: Exchange, present: Iterable[str]) -> tuple[Exchange, tuple[Slot, ...]]:
    """The exchange with as many further slots as are wanted and can be filled, and those slots."""
    if not exchange.wanted:
        return exchange, ()
    names = eligible(exchange, present)[: exchange.wanted]
    start = len(exchange.slots)
    added = tuple(Slot(start + index, name, exchange.offers) for index, name in enumerate(names))
    return replace(exchange, slots=exchange.slots + added), added


def register(exchange: Exchange, client: str) -> Slot | None:
    """The open slot of this client: the same whenever it asks."""
    if exchange.closed:
        return None
    return next((slot for slot in exchange.slots if slot.client == client and slot.state == "open"), None)


def accept(exchange: Exchange, index: int) -> tuple[Exchange, Literal["accepted", "duplicate", "late", "refused"]]:
    """A checked answer has arrived for this slot."""
    slot = exchange.slots[index]
    if slot.state == "accepted":
        return exchange, "duplicate"
    if slot.state == "refused":
        return exchange, "refused"
    if slot.state == "late" or exchange.closed or exchange.count("accepted") >= exchange.policy.cohort:
        return _set(exchange, index, "late"), "late"
    return _set(exchange, index, "accepted"), "accepted"


def retract(exchange: Exchange, index: int) -> Exchange:
    """The exchange in which an answer that could not be stored is asked for again."""
    if exchange.closed or exchange.slots[index].state != "accepted":
        raise ValueError(f"slot {index} holds no answer that could be retracted")
    return _set(exchange, index, "open")


def refuse(exchange: Exchange, index: int) -> Exchange:
    """The slot's answer was invalid. A slot that is no longer open stays as it is."""
    return _set(exchange, index, "refused") if exchange.slots[index].state == "open" else exchange


def lose(exchange: Exchange, client: str) -> Exchange:
    """The client is gone for good: its open slot is closed."""
    slot = register(exchange, client)
    return exchange if slot is None else _set(exchange, slot.index, "late")


def due(exchange: Exchange, now: float, *, present: Collection[str], members: Collection[str]) -> Due:
    """What is to be done. `present`: who could be asked now; `members`: who could ever come."""
    accepted = exchange.count("accepted")
    enough = accepted >= exchange.policy.quorum and accepted > 0
    if accepted >= exchange.policy.cohort and accepted > 0:
        return "close"
    if exchange.due_at is not None and now >= exchange.due_at:
        return "close" if enough else "missed"
    if exchange.count("open") or not exchange.slots:
        return "wait"
    if exchange.wanted and eligible(exchange, present):
        return "wait"
    if enough:
        return "close"
    tried = any(slot.offer == exchange.offers and slot.state != "accepted" for slot in exchange.slots)
    nobody_left = exchange.policy.same or not eligible(exchange, members)
    return "missed" if tried and nobody_left else "wait"


def again(exchange: Exchange, now: float, *, drop: bool = False) -> Exchange:
    """The next offer: unanswered slots are closed and others asked; a cohort "same" is asked again.

    `drop`: answers that were accepted do not count either.
    """
    offers = exchange.offers + 1

    def renew(slot: Slot) -> Slot:
        if slot.state == "accepted" and not drop:
            return slot
        if exchange.policy.same:
            return replace(slot, state="open", offer=offers)
        return replace(slot, state="late") if slot.state in ("open", "accepted") else slot

    slots = tuple(renew(slot) for slot in exchange.slots)
    return replace(exchange, slots=slots, offers=offers, due_at=_due_at(exchange.policy, now))


def close(exchange: Exchange) -> Exchange:
    """The closed exchange: what is still open is late."""
    slots = tuple(replace(slot, state="late") if slot.state == "open" else slot for slot in exchange.slots)
    return replace(exchange, slots=slots, closed=True)


def _set(exchange: Exchange, index: int, state: SlotState) -> Exchange:
    slots = exchange.slots
    return replace(exchange, slots=(*slots[:index], replace(slots[index], state=state), *slots[index + 1 :]))
