"""A run and its open exchange as their leader holds them: nothing that rows and objects do not hold too."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from thinwire.codecs import Arrays
from thinwire.coordinator.objects.spool import Spool
from thinwire.coordinator.records.leases import Lease
from thinwire.coordinator.runs.best import Best
from thinwire.coordinator.runs.broadcast import Broadcast
from thinwire.coordinator.runs.budget import Lowered, Past
from thinwire.coordinator.runs.exchange import Exchange, Slot
from thinwire.coordinator.runs.identity import task_id
from thinwire.coordinator.runs.metrics import Told
from thinwire.coordinator.runs.rows import RunCommand
from thinwire.methods.chains import Chains
from thinwire.methods.definition import Definition
from thinwire.methods.values import EVALUATE, State, Task
from thinwire.protocol.fields import Role, RunState

_TRAINING: Final = frozenset[Role]({"client"})
_EVALUATING: Final = frozenset[Role]({"client", "evaluator"})


@dataclass(frozen=True, slots=True)
class Published:
    """What an exchange sends: its task, its plan by digest, its broadcast, and the chains of both ways. `lineage`: of
    the run, where a backup was put back.
    """

    task: Task
    chains: Chains
    plan: bytes
    broadcast: Broadcast
    lineage: str | None = None

    @property
    def reference(self) -> Arrays:
        """What both ends know when an answer is decoded."""
        return self.broadcast.reference

    @property
    def max_payload_bytes(self) -> int:
        """Of an answer; nothing larger is read."""
        reply = self.task.reply
        return self.chains.up.bound(reply).max_payload_bytes if len(reply) else 0

    def to_decode(self) -> Published:
        """With as much of the broadcast as decoding an answer needs."""
        if self.chains.up.needs_reference:
            return self
        return replace(self, broadcast=self.broadcast.without_arrays())


@dataclass(slots=True)
class Sum:
    """`total` grows as answers are accepted, and becomes the state `after`; `adding` counts those that are accepted but
    not in it yet. `lock`: one is added at a time.
    """

    total: Any = None
    after: State | None = None
    adding: int = 0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(slots=True)
class Asked:
    """Who is asked. `unasked`: slots whose tasks the database does not have yet, so that they are not told. `declined`:
    who gave its task up, and why. `newcomers`: the clients to consider, None for all there are. `unheard`: when clients
    were asked that have not been heard of since, Unix seconds; `lapse_at`: no slot lapses before, since
    clients come back after a process that has died. `left_out`: client -> the budget that keeps it from being asked, as
    of the day `left_out_on`.
    """

    slot_by_task: dict[str, int] = field(default_factory=dict)
    unasked: list[int] = field(default_factory=list)
    declined: dict[str, str] = field(default_factory=dict)
    newcomers: set[str] | None = None
    unheard: dict[str, float] = field(default_factory=dict)
    lapse_at: float = 0.0
    left_out: dict[str, str] = field(default_factory=dict)
    left_out_on: int = 0


@dataclass(slots=True)
class Current:
    """The exchange that is open. `metrics_by_slot`: what accepted answers told. `opened_at`: monotonic seconds.
    `older`: what earlier exchanges sent, to whose tasks answers may still count.
    """

    run: str
    index: int
    published: Published
    exchange: Exchange
    opened_at: float
    spool: Spool
    sum: Sum = field(default_factory=Sum)
    asked: Asked = field(default_factory=Asked)
    metrics_by_slot: dict[int, Told] = field(default_factory=dict)
    older: Mapping[int, Published] = field(default_factory=dict)

    @property
    def is_evaluation(self) -> bool:
        """Whether it measures the final state; its answers add up to nothing."""
        return self.published.task.kind == EVALUATE

    @property
    def oldest(self) -> int:
        """The first exchange an answer to which may count in this one."""
        return max(0, self.index - (self.exchange.policy.max_staleness or 0))

    @property
    def max_payload_bytes(self) -> int:
        """Of an answer to this exchange; nothing larger is read."""
        return self.published.max_payload_bytes

    def asked_with(self, exchange: int) -> Published:
        """What this exchange, or an earlier one whose answers may count in it, has sent."""
        return self.published if exchange == self.index else self.older[exchange]

    def id_of(self, slot: Slot) -> str:
        """The task of this slot."""
        return task_id(self.run, self.index - slot.age, slot.offer, slot.client, self.published.lineage)

    def know(self, slot: Slot) -> str:
        """The task of this slot, which can be found by it from now on."""
        task = self.id_of(slot)
        self.asked.slot_by_task[task] = slot.index
        return task


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The exchange before: its broadcast, and whose answers counted, sorted."""

    broadcast: Broadcast | None = None
    contributors: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Outstanding:
    """What earlier exchanges of an asynchronous run have left open. `slots`: as the next exchange has them; `unheard`:
    as of `Asked`; `published`: what these exchanges sent, by exchange.
    """

    slots: Sequence[Slot] = ()
    unheard: Mapping[str, float] = field(default_factory=dict)
    published: Mapping[int, Published] = field(default_factory=dict)


@dataclass(slots=True)
class Orders:
    """`command`: of the operator, not yet carried out; `resumed`: the run has just been told to go on."""

    command: RunCommand | None = None
    resumed: bool = False


@dataclass(slots=True)
class Why:
    """Why the run stands. `said`: as its row has it; `comes`: as it is now, since `since`, monotonic seconds."""

    said: str | None = None
    comes: str | None = None
    since: float = 0.0


@dataclass(slots=True)
class Led:
    """A run under its leader's lease. `index`: the exchange that is open or comes next; `method_state`: the state
    before it. `history`: all exchanges that are closed. `lowered`: by a budget, of the round that goes on or was last.
    `checkpoints`: of this exchange and the one before, each with the epoch that tells it from others; `best`: the best
    models so far. `command`: of the operator, not yet carried out; `resumed`: it has just been told to go on.
    `useless`: tasks that are over, whose answers nobody needs. `outstanding`: tasks that have outlived their exchange.
    """

    definition: Definition
    lease: Lease
    method_state: State
    index: int
    state: RunState
    lineage: str | None = None
    orders: Orders = field(default_factory=Orders)
    why: Why = field(default_factory=Why)
    current: Current | None = None
    predecessor: Predecessor = Predecessor()
    outstanding: Outstanding = field(default_factory=Outstanding)
    history: list[Past] = field(default_factory=list)
    lowered: Lowered = field(default_factory=Lowered)
    checkpoints: dict[int, int | None] = field(default_factory=dict)
    useless: list[str] = field(default_factory=list)
    best: tuple[Best, ...] = ()

    @property
    def id(self) -> str:
        """The run's."""
        return self.definition.id

    @property
    def finished(self) -> bool:
        """Whether the run is over."""
        return self.state == "finished"

    @property
    def last_kind(self) -> str | None:
        """The kind of the exchange that was closed last."""
        return self.history[-1].kind if self.history else None

    @property
    def roles(self) -> frozenset[Role]:
        """Whom the run could ask now: evaluators only evaluate."""
        evaluates = self.current is not None and self.current.is_evaluation
        return _EVALUATING if evaluates else _TRAINING
