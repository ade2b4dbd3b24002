"""One run as the coordinator holds it in memory, and its open exchange."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from thinwire.codecs import Arrays, Spec
from thinwire.methods.chains import Chains
from thinwire.methods.definition import Definition
from thinwire.methods.values import EVALUATE, Contribution, State, Task
from thinwire.protocol.fields import RunOutcome, RunState
from thinwire.protocol.messages import ExchangeMetrics, RunView
from thinwire.protocol.reasons import ProblemError

from .broadcast import Broadcast, Form
from .exchange import Exchange, Policy, Slot
from .spool import Spool

TASK_ID_LENGTH = 10
_LARGEST = 1e30
"""Of a metric: sums stay finite, whatever one client reports."""


def task_id(run: str, exchange: int, offer: int, client: str) -> str:
    """The same task has the same id before and after a crash, so a staged answer stays usable."""
    digest = hashlib.sha256(f"{run}/{exchange}/{offer}/{client}".encode()).digest()
    return base64.b32encode(digest).decode().lower()[:TASK_ID_LENGTH]


@dataclass(frozen=True, slots=True)
class Told:
    """What an accepted answer said beside its arrays."""

    examples: int
    metrics: Mapping[str, float]


@dataclass(slots=True)
class OpenExchange:
    """The exchange that is going on. `total` grows as answers are accepted, and becomes the state `after`; `adding`
    counts those that are accepted but not in it yet; `stored`: (slot, offer) pairs whose tasks the database knows, so
    that they may be told; `declined`: who gave its task up, and why.
    """

    index: int
    task: Task
    chains: Chains
    plan: bytes
    broadcast: Broadcast
    exchange: Exchange
    opened_at: float
    total: Any = None
    after: State | None = None
    adding: int = 0
    summing: asyncio.Lock = field(default_factory=asyncio.Lock)
    stored: set[tuple[int, int]] = field(default_factory=set)
    told: dict[int, Told] = field(default_factory=dict)
    refusals: dict[int, tuple[str, str]] = field(default_factory=dict)
    declined: dict[str, str] = field(default_factory=dict)
    private: dict[str, tuple[Spec, Form] | None] = field(default_factory=dict)
    spool: Spool = field(kw_only=True)

    @property
    def reference(self) -> Arrays:
        """What both ends know when an answer is decoded."""
        return self.broadcast.reference

    @property
    def max_payload_bytes(self) -> int:
        """Of an answer; more is refused before it is read."""
        return self.chains.up.bound(self.task.reply).max_payload_bytes if len(self.task.reply) else 0

    def id_of(self, run: str, slot: Slot) -> str:
        return task_id(run, self.index, slot.offer, slot.client)


@dataclass(slots=True)
class Run:
    """`index`: the exchange that is open or comes next; `at`: the state before it. `counted`: whose answers counted in
    the exchange before, `last_kind`: its kind. `broadcasts`: exchange -> part -> digest, of those that clients may
    still hold. `command`: pause or stop, not yet carried out. `resumed`: an operator has just said so. `damaged`: what
    it needs on the disk cannot be read; it waits, paused, and `kept` are the payloads that must stay meanwhile.
    `troubles`: what of this machine keeps it from going on, by what it kept from being done, while it lasts.
    """

    definition: Definition
    at: State
    state: RunState = "pending"
    outcome: RunOutcome | None = None
    reason: str | None = None
    command: str | None = None
    resumed: bool = False
    damaged: bool = False
    kept: set[bytes] = field(default_factory=set)
    troubles: dict[str, str] = field(default_factory=dict)
    index: int = 0
    model: bytes | None = None
    created_at: float = 0.0
    finished_at: float | None = None
    open: OpenExchange | None = None
    before: Broadcast | None = None
    plan_before: bytes | None = None
    counted: list[str] = field(default_factory=list)
    last_kind: str | None = None
    broadcasts: dict[int, dict[str, bytes]] = field(default_factory=dict)
    closed: list[ExchangeMetrics] = field(default_factory=list)
    took_part: set[str] = field(default_factory=set)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    listeners: set[asyncio.Queue[tuple[str, str]]] = field(default_factory=set)

    @property
    def id(self) -> str:
        return self.definition.id

    @property
    def finished(self) -> bool:
        return self.state == "finished"

    def policy(self, task: Task) -> Policy:
        """The round policy for a task."""
        run = self.definition.run
        return Policy(
            cohort=run.cohort,
            asked=math.ceil(run.cohort * run.over_select),
            quorum=run.needed,
            max_offers=run.max_offers,
            deadline_s=run.deadline_s,
            same=task.cohort == "same",
        )

    def shared(self) -> set[bytes]:
        """The broadcast payloads that any client of the run may fetch."""
        return {
            digest
            for broadcast in (self.before, None if self.open is None else self.open.broadcast)
            if broadcast is not None
            for digest in broadcast.digests()
        }

    def plans(self) -> set[bytes]:
        """Of the open exchange and the one before."""
        found = {self.plan_before, None if self.open is None else self.open.plan}
        return {digest for digest in found if digest is not None}

    def needs(self) -> set[bytes]:
        """The payloads that must stay: of the open exchange and the one before, and the final model."""
        kept = self.shared() | self.plans() | self.kept
        if self.model is not None:
            kept.add(self.model)
        if self.open is not None:
            kept |= {made[1].digest for made in self.open.private.values() if made is not None}
        return kept

    def view(self) -> RunView:
        """The run as operators see it."""
        run = self.definition.run
        exchange = None if self.open is None else self.open.exchange
        return RunView(
            id=self.id,
            name=run.name,
            method=run.method,
            state=self.state,
            outcome=self.outcome,
            reason=self.reason or next(iter(self.troubles.values()), None),
            round=min(self.at.round, run.rounds),
            step=self.at.step,
            rounds=run.rounds,
            exchange=self.index,
            answers=0 if exchange is None else exchange.count("accepted"),
            cohort=run.cohort if exchange is None else exchange.policy.cohort,
            parameters=self.definition.parameters,
            model=self.model,
            created_at=self.created_at,
            finished_at=self.finished_at,
            warnings=self.definition.server.warnings() or None,
            settings=run.model_dump(mode="json", by_alias=True, exclude_none=True),
        )

    def trouble(self, what: str, problem: ProblemError | None) -> None:
        """What keeps this from being done, for the operator to see; None where it has been done."""
        before = self.troubles.pop(what, None)
        if problem is not None:
            self.troubles[what] = str(problem)[:1000]
        if self.troubles.get(what) != before:
            self.tell_state()

    def tell(self, event: str, data: str) -> None:
        """To everybody who listens to the run's events; a listener that does not keep up misses some."""
        for queue in self.listeners:
            if not queue.full():
                queue.put_nowait((event, data))

    def tell_state(self) -> None:
        self.tell("run", self.view().model_dump_json(exclude_none=True))


def admitted(run: Run, opened: OpenExchange, contribution: Contribution) -> Contribution:
    """The contribution as it is added: checked, and on disk where the reducer keeps it.

    Raises: `CodecError`, `OSError`.
    """
    if is_evaluation(opened.task):
        return contribution
    reducer = run.definition.server.reducer
    contribution = reducer.check(contribution)
    return replace(contribution, arrays=opened.spool.keep(contribution.arrays)) if reducer.keeps else contribution


def weighted_metrics(told: Collection[Told], most: int) -> dict[str, float]:
    """Means over answers, weighted by the examples that were evaluated (`examples` of the metrics, summed here), or
    else by the examples trained on; by at most `most`, for a client says what it likes.
    """
    sums: dict[str, float] = {}
    weights: dict[str, float] = {}
    for one in sorted(told, key=lambda item: (item.examples, sorted(item.metrics.items()))):
        weight = _weight(one, most)
        for name, value in one.metrics.items():
            if name == "examples":
                continue
            sums[name] = sums.get(name, 0.0) + weight * min(max(value, -_LARGEST), _LARGEST)
            weights[name] = weights.get(name, 0.0) + weight
    means = {name: sums[name] / weights[name] for name in sorted(sums) if weights[name] > 0}
    evaluated = [_weight(one, most) for one in told if "examples" in one.metrics]
    return {**means, "examples": math.fsum(evaluated)} if evaluated else means


def _weight(told: Told, most: int) -> float:
    return min(max(told.metrics.get("examples", float(told.examples)), 0.0), float(most))


def is_evaluation(task: Task) -> bool:
    return task.kind == EVALUATE
