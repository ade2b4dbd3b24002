"""Opening an exchange: its payloads as objects, its row in the database; durable, then told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from thinwire.coordinator.objects.objects import Objects, payload
from thinwire.coordinator.objects.spool import Spool
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.runs.broadcast import Broadcast, Form, publish_task
from thinwire.coordinator.runs.exchange import Exchange
from thinwire.coordinator.runs.policy import Policy
from thinwire.coordinator.runs.rows import ExchangeRow
from thinwire.machine.workers import Workers
from thinwire.methods.values import EVALUATE, Task
from thinwire.protocol.encoding import encode_message

from .budgets import Budgets, Next
from .clock import Clock
from .current import Current, Led, Published


@dataclass(frozen=True, slots=True)
class Ready:
    """An exchange that could be opened: what it sends lies in the objects. `plan`: its digest."""

    task: Task
    broadcast: Broadcast
    plan: bytes


class Opening:
    """`spool`: the folder in which contributions that a reducer keeps lie while their exchange is open."""

    def __init__(
        self, exchanges: Exchanges, budgets: Budgets, objects: Objects, workers: Workers, clock: Clock, spool: Path
    ) -> None:
        self._exchanges = exchanges
        self._budgets = budgets
        self._objects = objects
        self._workers = workers
        self._clock = clock
        self._spool = spool

    async def prepare(self, led: Led) -> tuple[Ready | None, str | None]:
        """The next exchange; and where there is none though the method would go on: why. Raises: `storage-failed`,
        `CodecError`, `OSError`.
        """
        following = await self._budgets.next_round(led)
        return await self._workers.run(self._prepare, led, following)

    def _prepare(self, led: Led, following: Next) -> tuple[Ready | None, str | None]:
        """In a thread."""
        task, reason = _next_task(led, following.beyond)
        if task is None:
            return None, reason
        if task.kind != EVALUATE and task.step == 0:
            led.lowered = following.lowered
        return self._publish(led, task), None

    async def open(self, led: Led, ready: Ready) -> None:
        """This exchange is open from now on. Raises: `storage-failed`, `storage-full`; then nothing has changed."""
        definition, task, broadcast = led.definition, ready.task, ready.broadcast
        now = self._clock.monotonic()
        policy = Policy.from_settings(
            definition.run, same=task.cohort == "same", cohort=led.lowered.cohort, evaluates=task.kind == EVALUATE
        )
        exchange = Exchange.begin(
            policy, definition.run.seed, task.round, now, led.predecessor.contributors, led.outstanding.slots
        )
        current = self.current(led, task, ready.plan, broadcast, exchange, now)
        current.asked.unasked = [slot.index for slot in exchange.slots if not slot.age]
        wall = self._clock.wall()
        await self._exchanges.open(led.lease, _row(led, current, wall), [*broadcast.digests()], wall)
        led.current = current

    def current(
        self, led: Led, task: Task, plan: bytes, broadcast: Broadcast, exchange: Exchange, opened_at: float
    ) -> Current:
        """The exchange the run stands at, as its leader holds it, without any answer yet."""
        chains = led.definition.chains(task.kind, led.lowered.bits)
        spool = Spool(self._spool)
        current = Current(
            led.id, led.index, Published(task, chains, plan, broadcast, led.lineage), exchange, opened_at, spool,
            older=led.outstanding.published,
        )  # fmt: skip
        current.asked.unheard.update(led.outstanding.unheard)
        for slot in exchange.slots:
            if slot.age:
                current.know(slot)
        if not current.is_evaluation:
            current.sum.total = led.definition.server.reducer.zero()
        return current

    def _publish(self, led: Led, task: Task) -> Ready:
        """In a thread: the parts of the task and its plan, as objects."""
        chains = led.definition.chains(task.kind, led.lowered.bits)
        base = led.predecessor.broadcast if chains.down.needs_reference else None

        def keep(digest: bytes, data: bytes) -> None:
            self._objects.put(payload(led.id, digest), data, durable=True)

        broadcast = publish_task(task, chains, led.definition.run.seed, base, keep)
        specs = {name: part.spec for name, part in broadcast.parts.items()}
        return Ready(
            task, broadcast, Form.of(encode_message(led.definition.plan(task, specs, led.lowered.bits)), keep).digest
        )


def _next_task(led: Led, beyond: str | None) -> tuple[Task | None, str | None]:
    server = led.definition.server
    task, reason = server.task(led.method_state), None
    if task is not None and beyond is not None and task.step == 0:
        task, reason = None, beyond
    if task is None and led.definition.run.evaluate and led.last_kind != EVALUATE:
        task = server.evaluation(led.method_state)
    return task, reason


def _row(led: Led, current: Current, wall: float) -> ExchangeRow:
    """The row of an exchange that is opened now; `wall`: Unix seconds."""
    task = current.published.task
    return ExchangeRow(
        run=current.run,
        exchange=current.index,
        round=task.round,
        step=task.step,
        kind=task.kind,
        plan=current.published.plan,
        parts=current.published.broadcast.to_plain(),
        options=dict(task.options) or None,
        max_payload_bytes=current.max_payload_bytes,
        cohort=task.cohort,
        size=current.exchange.policy.cohort,
        offers=current.exchange.offers,
        seconds=0.0,
        left_s=current.exchange.policy.deadline_s,
        clock_at=wall,
        closed=False,
        answers=0,
        metrics={},
        opened_at=wall,
        closed_at=None,
        state_epoch=led.checkpoints[led.index],
        lowered_bits=led.lowered.bits,
        lowered_cohort=led.lowered.cohort,
    )
