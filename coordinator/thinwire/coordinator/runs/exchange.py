"""One exchange as a state machine: who is asked, whose answer counts, when it closes.

No clock, no disk: `now` is monotonic seconds. A client is asked by getting a slot; within one offer it gets at most
one. What an answer changes costs the same whether ten clients are asked or ten thousand. The laws:

- at most `cohort` answers are accepted, each from another client; an accepted answer stays accepted;
- a slot leaves "open" once and, but for a new offer to a cohort "same" or one that had lapsed, never returns;
- as many slots are open or accepted as are wanted, while there are clients to ask;
- the same calls in the same order give the same exchange.

In an asynchronous run (FedBuff: J. Nguyen et al., "Federated Learning with Buffered Asynchronous Aggregation", AISTATS
2022, arXiv 2106.06639, Algorithm 1) the open slots of an exchange that closes are carried into the next: it closes at
`cohort` answers to tasks of its own or of earlier exchanges, a client may give one of each, and so many slots are kept
open as are asked. An answer that comes when it has enough waits for the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from thinwire.protocol.identity import cohort_order

from .policy import Policy

SlotState = Literal["open", "accepted", "refused", "late"]
Due = Literal["wait", "close", "missed"]


@dataclass(frozen=True, slots=True)
class Slot:
    """A client's fixed place in the cohort. `offer`: the offer (from 1) that asked it last. `lapsed`: it is late since
    its client was not there to hear of it. `age`: so many exchanges before this one it was asked, which is the
    staleness of its answer; carried slots keep their `index`.
    """

    index: int
    client: str
    offer: int = 1
    state: SlotState = "open"
    lapsed: bool = False
    age: int = 0


class Exchange:
    """`offers`: how often it has been offered; `due_at`: when the present offer ends, None for never."""

    def __init__(
        self,
        policy: Policy,
        seed: int,
        round_: int,
        *,
        due_at: float | None,
        slots: Iterable[Slot] = (),
        offers: int = 1,
    ) -> None:
        """An exchange that stands like this; `begin` makes a new one."""
        self.policy = policy
        self.offers = offers
        self.due_at = due_at
        self.closed = False
        self._seed = seed
        self._round = round_
        self._slots: dict[int, Slot] = {}
        self._next = 0
        self._counts = Counter[SlotState]()
        self._open: dict[str, int] = {}  # client -> its open slot
        self._tried: set[str] = set()  # asked in the present offer, or counted
        self._asked_ever: set[str] = set()
        self._absent: dict[str, int] = {}  # client -> its slot of the present offer that has lapsed
        for slot in slots:
            self._add(slot)

    @staticmethod
    def begin(
        policy: Policy, seed: int, round_: int, now: float, same: Collection[str] = (), carried: Iterable[Slot] = ()
    ) -> Exchange:
        """A new exchange. `same`: the cohort where the policy is "same"; all of it is asked at once. `carried`: the
        slots that the exchange before has left open (`carry`).
        """
        slots = list(carried)
        if policy.same:
            slots = [Slot(index, name) for index, name in enumerate(cohort_order(seed, round_, same))]
            policy = policy.of(len(slots))
        return Exchange(policy, seed, round_, due_at=_due_at(policy, now), slots=slots)

    # -- how it stands ----------------------------------------------------------------------------------------

    @property
    def slots(self) -> Sequence[Slot]:
        """All slots, by index."""
        return list(self._slots.values())

    def slot(self, index: int) -> Slot:
        """The slot with this index."""
        return self._slots[index]

    def count(self, state: SlotState) -> int:
        """How many slots are in this state."""
        return self._counts[state]

    @property
    def wanted(self) -> int:
        """How many more clients should be asked; of a cohort "same", how many again when they are there."""
        if self.closed:
            return 0
        if self.policy.same:
            return len(self._absent)
        accepted = self.count("accepted")
        if self.policy.max_staleness is not None:
            accepted = self.policy.asked if accepted >= self.policy.cohort else 0
        return max(0, self.policy.asked - self.count("open") - accepted)

    @property
    def contributors(self) -> list[str]:
        """The clients whose answers count, sorted."""
        return sorted(slot.client for slot in self._slots.values() if slot.state == "accepted")

    @property
    def absent(self) -> list[str]:
        """Those of a cohort "same" who are waited for and were not there to hear of it, sorted."""
        return sorted(self._absent) if self.policy.same else []

    def open_slot(self, client: str) -> Slot | None:
        """The open slot of this client."""
        index = self._open.get(client)
        return None if index is None else self._slots[index]

    def eligible(self, names: Iterable[str]) -> list[str]:
        """Those of the names that may still be asked in this offer, in their order; who failed an earlier one last."""
        if self.policy.same:
            return sorted(self._absent.keys() & set(names))
        order = cohort_order(self._seed, self._round, {*names} - self._tried - self._open.keys())
        return sorted(order, key=lambda name: name in self._asked_ever)

    # -- what happens to it -----------------------------------------------------------------------------------

    def offer(self, present: Iterable[str]) -> list[Slot]:
        """Gives further slots to those who are present, as many as are wanted and can be filled: new ones, or those of
        theirs that had lapsed. These slots.
        """
        if not self.wanted:
            return []
        offered = []
        for name in self.eligible(present)[: self.wanted]:
            index = self._absent.get(name, self._next)
            if name in self._absent:
                self._set(index, "open")
            else:
                self._add(Slot(index, name, self.offers))
            offered.append(self._slots[index])
        return offered

    def accept(self, index: int, offer: int) -> Literal["accepted", "duplicate", "late", "refused", "waits"]:
        """A checked answer has arrived for this slot, to the task of this offer. Where it had lapsed, its client heard
        of it after all: it counts, unless another has its place. "waits": for the next exchange of an asynchronous run.
        """
        slot = self._slots.get(index)
        if slot is None or slot.offer != offer:
            return "late"
        if slot.state == "accepted":
            return "duplicate"
        if slot.state == "refused":
            return "refused"
        full = self.closed or self.count("accepted") >= self.policy.cohort
        missed = self.wanted > 0 and self._absent.get(slot.client) == index
        if full and slot.state == "open" and self.policy.max_staleness is not None:
            return "waits"
        if full or (slot.state == "late" and not missed):
            self._set(index, "late")
            return "late"
        self._set(index, "accepted")
        return "accepted"

    def retract(self, index: int, offer: int) -> bool:
        """An answer that could not be noted is asked for again; whether the slot still held it."""
        slot = self._slots[index]
        held = not self.closed and slot.offer == offer and slot.state == "accepted"
        if held:
            self._set(index, "open")
        return held

    def refuse(self, index: int) -> None:
        """The slot's answer was invalid. A slot that is no longer open stays as it is."""
        if self._slots[index].state == "open":
            self._set(index, "refused")

    def lose(self, client: str) -> None:
        """Nothing more comes of the client's open slot."""
        slot = self.open_slot(client)
        if slot is not None:
            self._set(slot.index, "late")

    def lapse(self, client: str) -> None:
        """The client never heard of its open slot; it may be asked again when it is there, anew if it was carried."""
        slot = self.open_slot(client)
        if slot is not None:
            self._set(slot.index, "late", lapsed=not slot.age)
            self._tried.discard(client)

    def unanswered(self, *, drop: bool = False) -> list[Slot]:
        """The slots that `again` closes."""
        return [slot for slot in self.slots if slot.state == "open" or (drop and slot.state == "accepted")]

    def again(self, now: float, *, drop: bool = False) -> None:
        """The next offer: unanswered slots are closed and others asked; a cohort "same" is asked again.

        `drop`: answers that were accepted do not count either.
        """
        unanswered = self.unanswered(drop=drop)
        self.offers += 1
        self.due_at = _due_at(self.policy, now)
        if self.policy.same:
            for slot in self.slots:
                if drop or slot.state != "accepted":
                    self._set(slot.index, "open", offer=self.offers)
        else:
            for slot in unanswered:
                self._set(slot.index, "late")
            self._tried = {slot.client for slot in self.slots if slot.state == "accepted" and not slot.age}
            self._absent.clear()

    def close(self) -> None:
        """What is still open is late; in an asynchronous run it may be carried on."""
        if self.policy.max_staleness is None:
            for index in list(self._open.values()):
                self._set(index, "late")
        self.closed = True

    def carry(self) -> list[Slot]:
        """The open slots as the next exchange of an asynchronous run has them: without those that are too old then."""
        oldest = self.policy.max_staleness or 0
        open_ = (self._slots[index] for index in sorted(self._open.values()))
        return [replace(slot, age=slot.age + 1) for slot in open_ if slot.age < oldest]

    # -- what is to be done -----------------------------------------------------------------------------------

    def depends_on_people(self, now: float) -> bool:
        """Whether `due` would look at who is there."""
        if self.count("accepted") >= self.policy.cohort or (self.due_at is not None and now >= self.due_at):
            return False
        return bool(self._slots) and not self.count("open")

    def due(self, now: float, *, askable: bool = False, reachable: bool = False) -> Due:
        """What is to be done. `askable`: somebody who is present may still be asked; `reachable`: somebody may who
        could ever come. Both matter only where `depends_on_people`.
        """
        accepted = self.count("accepted")
        enough = accepted >= self.policy.quorum and accepted > 0
        if accepted >= self.policy.cohort and accepted > 0:
            return "close"
        if self.due_at is not None and now >= self.due_at:
            return "close" if enough else "missed"
        if self.count("open") or not self._slots or (self.wanted and askable):
            return "wait"
        if enough:
            return "close"
        if self.absent and accepted + len(self._absent) >= self.policy.quorum:
            return "wait"
        tried = any(slot.offer == self.offers and slot.state != "accepted" for slot in self._slots.values())
        return "missed" if tried and (self.policy.same or not reachable) else "wait"

    # -- the books --------------------------------------------------------------------------------------------

    def _add(self, slot: Slot) -> None:
        self._slots[slot.index] = slot
        self._next = max(self._next, slot.index + 1)
        self._counts[slot.state] += 1
        if not slot.age:
            self._asked_ever.add(slot.client)
        if not slot.age and (slot.state == "accepted" or (slot.offer == self.offers and not slot.lapsed)):
            self._tried.add(slot.client)
        if slot.lapsed and slot.offer == self.offers:
            self._absent[slot.client] = slot.index
        if slot.state == "open":
            self._open[slot.client] = slot.index

    def _set(self, index: int, state: SlotState, *, offer: int | None = None, lapsed: bool = False) -> None:
        before, offer = self._slots[index], self._slots[index].offer if offer is None else offer
        self._slots[index] = replace(before, state=state, offer=offer, lapsed=lapsed)
        self._absent.pop(before.client, None)
        if lapsed:
            self._absent[before.client] = index
        if state in ("open", "accepted") and not before.age:
            self._tried.add(before.client)
        self._counts[before.state] -= 1
        self._counts[state] += 1
        if before.state == "open":
            del self._open[before.client]
        if state == "open":
            self._open[before.client] = index


def _due_at(policy: Policy, now: float) -> float | None:
    return None if policy.deadline_s is None else now + policy.deadline_s
