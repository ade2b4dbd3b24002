"""Taking a run up from its rows and objects: after a start, a crash, the death of the machine, or from another leader.

The same for a new run and for one that has gone on for a year.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import structlog

from thinwire.codecs import CodecError
from thinwire.coordinator.objects.objects import checkpoint
from thinwire.coordinator.records.answers import Answers
from thinwire.coordinator.records.carried import Carried
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.leases import Lease
from thinwire.coordinator.records.tasks import Tasks
from thinwire.coordinator.runs.budget import Lowered, Past
from thinwire.coordinator.runs.definitions import Definitions
from thinwire.coordinator.runs.exchange import Exchange, Slot
from thinwire.coordinator.runs.metrics import Told
from thinwire.coordinator.runs.policy import Policy
from thinwire.coordinator.runs.rows import AnswerRow, ExchangeRow, RunRow, TaskRow
from thinwire.machine.workers import Workers
from thinwire.methods.values import EVALUATE
from thinwire.protocol.reasons import ProblemError

from .asking import LAPSE_S
from .clock import Clock
from .current import Current, Led, Orders, Outstanding, Predecessor, Why
from .deciding import Deciding
from .opening import Opening
from .repairing import Repairing

_log = structlog.get_logger("thinwire.coordinator")


class Restoring:
    """Reads rows and objects, and adds stored answers up again."""

    def __init__(
        self,
        exchanges: Exchanges,
        tasks: Tasks,
        carried: Carried,
        answers: Answers,
        definitions: Definitions,
        opening: Opening,
        deciding: Deciding,
        repairing: Repairing,
        workers: Workers,
        clock: Clock,
    ) -> None:
        self._exchanges = exchanges
        self._tasks = tasks
        self._carried = carried
        self._answers = answers
        self._definitions = definitions
        self._opening = opening
        self._deciding = deciding
        self._repairing = repairing
        self._workers = workers
        self._clock = clock

    async def restore(self, row: RunRow, lease: Lease) -> Led:
        """The run as it was left. Raises: `storage-failed`, `run-invalid`, `CodecError`, `OSError`."""
        definition = self._definitions.of(row)
        try:
            state = await self._workers.run(self._repairing.state, row.id, row.exchange, row.state_epoch)
        except CodecError as error:
            what = checkpoint(row.id, row.exchange, row.state_epoch)
            raise ProblemError("storage-failed", f"{what}: {error.detail}") from None
        led = Led(definition, lease, state, row.exchange, row.state, row.lineage, Orders(row.command), Why(row.reason))
        rows = {one.exchange: one for one in await self._exchanges.of(row.id)}
        led.history = [Past(one.exchange, one.round, one.kind, one.step) for one in rows.values() if one.closed]
        if (newest := rows.get(row.exchange, rows.get(row.exchange - 1))) is not None:
            led.lowered = Lowered(newest.lowered_bits, newest.lowered_cohort)
        led.checkpoints, led.best = {row.exchange: row.state_epoch}, row.best
        opened = rows.get(row.exchange)
        if (before := rows.get(row.exchange - 1)) is not None:
            contributors = await self._tasks.contributors(row.id, before.exchange)
            led.predecessor = Predecessor(contributors=contributors)
            led.checkpoints[before.exchange] = before.state_epoch
            try:
                broadcast = await self._workers.run(self._repairing.broadcast_before, led, before)
                kept = broadcast if definition.builds_on_broadcasts else broadcast.without_arrays()
                led.predecessor = Predecessor(kept, contributors)
            except (ProblemError, CodecError, OSError):
                if opened is None:
                    raise  # the next broadcast builds on it
                _log.warning("the broadcast before the open exchange is damaged", run=row.id, exchange=before.exchange)
        if definition.run.max_staleness is not None and (opened is None or opened.kind != EVALUATE):
            led.outstanding = await self._outstanding(led, definition.run.max_staleness, rows)
        if opened is not None:
            await self._reopen(led, opened)
        return led

    async def _outstanding(self, led: Led, oldest: int, rows: Mapping[int, ExchangeRow]) -> Outstanding:
        """The tasks of earlier exchanges that are open, or count in the one that the run stands at."""
        task = led.definition.server.task(led.method_state)
        asked = await self._carried.of(led.id, led.index, led.index - oldest)
        if task is None or not asked:
            return Outstanding()
        slots = [
            Slot(one.slot, one.client, one.offer, one.state, age=led.index - one.exchange)
            for one in asked
        ]  # fmt: skip
        published = {
            index: await self._workers.run(self._repairing.older, led, rows[index], task.reply)
            for index in sorted({one.exchange for one in asked})
        }
        return Outstanding(slots, {}, published)

    async def _reopen(self, led: Led, row: ExchangeRow) -> None:
        """The open exchange with its slots, its remaining time, and the sum of the answers that lie in the objects."""
        server = led.definition.server
        task = server.evaluation(led.method_state) if row.kind == EVALUATE else server.task(led.method_state)
        if task is None:
            raise ProblemError("internal", "the database and the checkpoint belong to different exchanges")
        broadcast = await self._workers.run(self._repairing.opened_broadcast, led, row, task)
        known = await self._tasks.of(row.run, row.exchange)
        now = self._clock.monotonic()
        exchange = _exchange(led, row, known, now)
        current = self._opening.current(led, task, row.plan, broadcast, exchange, now - row.seconds)
        led.current = current
        if row.max_payload_bytes != current.max_payload_bytes:
            # Written by a version whose rows did not say this yet.
            await self._describe(led, current, row)
        written = {one.id for one in known}
        current.asked.lapse_at = self._clock.wall() + LAPSE_S
        current.asked.left_out = dict(row.left_out or {})
        for slot in exchange.slots:
            if slot.state == "open" and current.know(slot) not in written and not slot.age:
                # A crash came between the offer and its tasks.
                current.asked.unasked.append(slot.index)
            elif slot.state == "open" and row.opened_at is not None:
                current.asked.unheard[slot.client] = row.opened_at  # or later
        for one in known:
            if one.reason == "declined":
                current.asked.declined[one.client] = one.detail or ""
        for answer in await self._answers.accepted(row.run, row.exchange, oldest=current.oldest):
            await self._count(led, current, answer)

    async def _describe(self, led: Led, current: Current, row: ExchangeRow) -> None:
        """Notes what the exchange's tasks say, and what is for one client alone."""
        options = dict(current.published.task.options) or None
        full = replace(row, options=options, max_payload_bytes=current.max_payload_bytes)
        await self._exchanges.open(led.lease, full, [*current.published.broadcast.digests()], self._clock.wall())
        current.asked.unasked = [slot.index for slot in current.exchange.slots if slot.state == "open"]

    async def _count(self, led: Led, current: Current, row: AnswerRow) -> None:
        """Adds a stored answer again; one that the machine lost is asked for again."""
        try:
            contribution = await self._workers.run(self._deciding.read, led, current, row, verify=True)
        except (OSError, CodecError) as error:
            _log.warning("a stored answer is lost; it is asked for again", task=row.task, error=str(error))
            current.exchange.retract(row.slot, row.offer)
            count = current.exchange.count("accepted")
            now, at = self._clock.wall(), current.index
            await self._tasks.verdict(led.lease, row.task, "open", None, None, count, now, at=at)
            current.know(current.exchange.slot(row.slot))
            return
        current.metrics_by_slot[row.slot] = Told(contribution.examples, row.metrics)
        await self._deciding.add(led, current, contribution)


def _exchange(led: Led, row: ExchangeRow, known: list[TaskRow], now: float) -> Exchange:
    """The machine as its rows have it: of each slot the task that was offered last."""
    run, seed = led.definition.run, led.definition.run.seed
    evaluates = row.kind == EVALUATE
    policy = Policy.from_settings(run, same=row.cohort == "same", cohort=row.lowered_cohort, evaluates=evaluates)
    if policy.same and not known:
        return Exchange.begin(policy, seed, row.round, now, led.predecessor.contributors)
    last = {one.slot: one for one in sorted(known, key=lambda item: item.offer)}
    slots = [Slot(index, one.client, one.offer, one.state, one.lapsed) for index, one in sorted(last.items())]
    slots = sorted([*slots, *led.outstanding.slots], key=lambda slot: slot.index)
    if policy.same:
        policy = policy.of(len(slots))
        slots = [
            slot if slot.state == "accepted" or slot.offer == row.offers else Slot(slot.index, slot.client, row.offers)
            for slot in slots
        ]
    due_at = None if row.left_s is None else now + row.left_s
    return Exchange(policy, seed, row.round, due_at=due_at, slots=slots, offers=row.offers)
