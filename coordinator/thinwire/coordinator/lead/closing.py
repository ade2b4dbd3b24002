"""Closing an exchange and finishing a run: the next state durable first, then visible."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial

import structlog

from thinwire.codecs import Arrays, CodecError
from thinwire.coordinator.objects.broadcasts import read_measured
from thinwire.coordinator.objects.objects import Objects, answer, payload
from thinwire.coordinator.objects.problems import storage_problem
from thinwire.coordinator.objects.states import keep_states, put_state
from thinwire.coordinator.records.carried import Carried
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.leases import LeaseLostError
from thinwire.coordinator.records.ledger import Ledger
from thinwire.coordinator.records.payloads import Payloads
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.runs.best import Best, after
from thinwire.coordinator.runs.budget import Past
from thinwire.coordinator.runs.closed import Figures, Over
from thinwire.coordinator.runs.metrics import weighted_metrics
from thinwire.coordinator.runs.tally import Tally
from thinwire.coordinator.signals.signals import Signals
from thinwire.machine.memory import give_back_freed_memory
from thinwire.machine.workers import Workers
from thinwire.methods.model_file import model_bytes
from thinwire.methods.values import State
from thinwire.protocol.fields import RunOutcome
from thinwire.protocol.reasons import ProblemError

from .clock import Clock
from .current import Current, Led, Outstanding, Predecessor, Why
from .outliving import outstanding_of, over_of, staleness_of

_TOLD = frozenset({"accuracy", "dice", "loss"})
_log = structlog.get_logger("thinwire.coordinator")


class Closing:
    """What ends: offers, exchanges, runs."""

    def __init__(
        self,
        runs: Runs,
        exchanges: Exchanges,
        carried: Carried,
        payloads: Payloads,
        ledger: Ledger,
        tally: Tally,
        objects: Objects,
        signals: Signals,
        workers: Workers,
        clock: Clock,
    ) -> None:
        self._runs = runs
        self._exchanges = exchanges
        self._carried = carried
        self._payloads = payloads
        self._ledger = ledger
        self._tally = tally
        self._objects = objects
        self._signals = signals
        self._workers = workers
        self._clock = clock

    async def offer_again(self, led: Led, current: Current, *, drop: bool = False) -> None:
        """The next offer of the open exchange; `drop`: without the answers there are.

        Raises: `storage-failed`, `storage-full`; then nothing has changed.
        """
        exchange = current.exchange
        late = [current.id_of(slot) for slot in exchange.unanswered(drop=drop)]
        offers, left_s = exchange.offers + 1, exchange.policy.deadline_s
        await self._exchanges.renew(led.lease, current.index, offers, left_s, late, drop=drop, now=self._clock.wall())
        exchange.again(self._clock.monotonic(), drop=drop)
        for task in late:
            current.asked.slot_by_task.pop(task, None)
            self._signals.publish(f"task:{task}")
        if drop:
            current.metrics_by_slot.clear()
            current.sum.after = None
            current.sum.total = None if current.is_evaluation else led.definition.server.reducer.zero()
            await self._workers.run(self._objects.delete, [answer(task) for task in late])
        if exchange.policy.same:
            current.asked.unasked = [slot.index for slot in exchange.slots if slot.state == "open"]
        current.asked.newcomers = None

    async def advance(self, led: Led, current: Current) -> None:
        """The answers become the next state, and the exchange is closed."""
        # Closed before the sum is read: an answer that comes now is late.
        current.exchange.close()
        await self.close(led, current, partial(_after, led, current))

    async def close(self, led: Led, current: Current, following: Callable[[], State]) -> None:
        """The exchange is closed, and the run stands at the state that `following` gives, in a thread. Raises:
        `storage-failed`, `storage-full`, `OSError`; then it can be tried again.
        """
        exchange, settings = current.exchange, led.definition.run
        exchange.close()
        state, goes_on = await self._workers.run(self._next_state, led, current, following)
        figures = await self._figures(led, current)
        best, over = _best(led, current, figures), over_of(current, goes_on=goes_on)
        await self._exchanges.close(led.lease, figures, state.round, state.step, self._clock.wall(), best, over)
        self._tally.exchanges[led.id].add(figures.seconds)
        task, asked = current.published.task, len(exchange.slots)
        _log.info(
            "exchange closed", run=settings.name, id=led.id, exchange=current.index, kind=task.kind, round=task.round,
            of=settings.rounds, answers=figures.answers, asked=asked, seconds=round(figures.seconds, 3),
            **{name: round(value, 4) for name, value in figures.metrics.items() if name in _TOLD},
        )  # fmt: skip
        led.method_state, led.index, led.current, led.why, led.best = state, current.index + 1, None, Why(), best
        led.checkpoints = {led.index: led.lease.mark, current.index: led.checkpoints.get(current.index)}
        builds_on = led.definition.builds_on_broadcasts
        broadcast = current.published.broadcast
        led.predecessor = Predecessor(broadcast if builds_on else broadcast.without_arrays(), exchange.contributors)
        led.history.append(Past(current.index, task.round, task.kind, task.step))
        led.outstanding = outstanding_of(current) if goes_on else Outstanding()
        carried = {slot.index for slot in led.outstanding.slots}
        led.useless += [current.id_of(slot) for slot in exchange.slots if slot.index not in carried]
        self._tell(led, current, over)

    def _next_state(self, led: Led, current: Current, following: Callable[[], State]) -> tuple[State, bool]:
        """In a thread: the next state, whose checkpoint lies in the objects, and whether tasks that are open outlive
        this exchange of an asynchronous run.
        """
        state = put_state(self._objects, led.id, current.index + 1, following(), led.lease.mark)
        is_asynchronous = current.exchange.policy.max_staleness is not None
        return state, is_asynchronous and led.definition.server.task(state) is not None

    async def _figures(self, led: Led, current: Current) -> Figures:
        exchange, most = current.exchange, led.definition.run.max_examples
        found = Figures(
            exchange=current.index,
            seconds=self._clock.monotonic() - current.opened_at,
            answers=len(current.metrics_by_slot),
            offers=exchange.offers,
            metrics=weighted_metrics(current.metrics_by_slot.values(), most),
        )
        if exchange.policy.max_staleness is None:
            return found
        told = await self._carried.told(led.id, current.oldest, current.index)
        means = {index: weighted_metrics(some, most) for index, some in told.items()}
        return replace(found, metrics=means.pop(current.index, {}), staleness=staleness_of(exchange.slots), older=means)

    async def finish(self, led: Led, outcome: RunOutcome, reason: str | None) -> None:
        """The run is over; its final model is a payload, and each of its best ones. Raises as `close`."""
        current, model = led.current, None
        arrays = await self._workers.run(led.definition.server.model, led.method_state)
        await self._workers.run(give_back_freed_memory)
        if arrays is not None:
            model = await self._workers.run(self._put_model, led, arrays)
        best = await self._with_files(led)
        await self._runs.finish(led.lease, outcome, reason, model, self._clock.wall(), best)
        _log.info("run finished", run=led.definition.run.name, id=led.id, outcome=outcome, reason=reason)
        led.state, led.orders.command, led.best = "finished", None, best
        led.current, led.predecessor = None, Predecessor()
        if current is not None:
            current.exchange.close()
        self._signals.publish(f"group:{led.definition.run.group}")
        if current is not None:
            led.useless += [current.id_of(slot) for slot in current.exchange.slots]
        self._tell(led, current, None if current is None else over_of(current, goes_on=False))
        await self.release(led)
        with contextlib.suppress(ProblemError):  # tried again soon, and said then
            await self._ledger.flush()

    async def _with_files(self, led: Led) -> tuple[Best, ...]:
        """The best models, each as a payload; what can be read no more is none. Raises as `close`."""
        files: dict[int, bytes | None] = {}
        for exchange in {one.exchange for one in led.best}:
            row = await self._exchanges.get(led.id, exchange)
            try:
                arrays = None if row is None else await self._workers.run(
                    read_measured, self._objects, led.definition, row
                )  # fmt: skip
            except (CodecError, ProblemError, FileNotFoundError) as error:
                _log.error("a best model is damaged", run=led.id, exchange=exchange, why=str(error))
                continue
            files[exchange] = None if arrays is None else await self._workers.run(self._put_model, led, arrays)
        found = ((one, files.get(one.exchange)) for one in led.best)
        return tuple(replace(one, model=digest) for one, digest in found if digest is not None)

    def _put_model(self, led: Led, arrays: Arrays) -> bytes:
        data = model_bytes(led.definition.marked(arrays))
        digest = hashlib.sha256(data).digest()
        self._objects.put(payload(led.id, digest), data, durable=True)
        return digest

    def _tell(self, led: Led, current: Current | None, over: Over | None) -> None:
        """Whoever waits for what is over hears of it."""
        if current is not None and over is not None:
            for index in range(max(0, over.first), over.end):
                self._signals.publish(f"closed:{led.id}", str(index))
            for slot in current.exchange.slots:
                self._signals.publish(f"task:{current.id_of(slot)}")
        self._signals.publish(f"events:{led.id}")

    async def release(self, led: Led) -> None:
        """Deletes what has become useless. A failure costs disk, nothing else."""
        tasks, led.useless = led.useless, []
        if not tasks:
            return
        try:
            await self._sweep(led, tasks)
        except LeaseLostError as error:
            _log.warning("what is useless is left to the next leader", run=led.id, why=str(error))
        except (OSError, ProblemError) as error:
            problem = error if isinstance(error, ProblemError) else storage_problem(error)
            _log.error("not released", run=led.id, reason=problem.reason)

    async def tidy(self, led: Led) -> None:
        """Deletes what a process that died has left of this run. A failure costs disk, nothing else."""
        try:
            await self._sweep(led)
        except (OSError, ProblemError) as error:
            _log.error("not tidied", run=led.id, why=str(error))

    async def _sweep(self, led: Led, tasks: Collection[str] = ()) -> None:
        """Deletes the answers to these tasks, and the states and payloads of the run that nothing names any more.

        Raises: `storage-failed`, `OSError`, `LeaseLostError`: another leads the run, and what it makes is not seen from
        here.
        """
        best = [(one.exchange, one.epoch) for one in led.best if one.model is None]

        def begin() -> list[str]:
            self._objects.delete([answer(task) for task in tasks])
            keep_states(self._objects, led.id, led.checkpoints, led.lease.mark, best)
            return self._objects.names(f"payloads/{led.id}")

        # Listed first: what another leader makes from now on is not among these.
        there = await self._workers.run(begin)
        needed = {payload(led.id, digest) for digest in await self._payloads.needed(led.lease)}
        if useless := [name for name in there if name not in needed]:
            await self._workers.run(self._objects.delete, useless)


def _after(led: Led, current: Current) -> State:
    """In a thread: what the answers make of the run's state."""
    if current.is_evaluation:
        return led.method_state
    if current.sum.after is None:
        current.sum.after = led.definition.server.advance(led.method_state, current.sum.total)
        # Of the sum and the next checkpoint only one is needed; a failed write begins again from the state.
        current.sum.total = None
    return current.sum.after


def _best(led: Led, current: Current, figures: Figures) -> tuple[Best, ...]:
    """The best models when this exchange is closed."""
    task, definition = current.published.task, led.definition
    begins = current.is_evaluation or task.step == 0
    if (
        current.exchange.policy.max_staleness is not None
        or not begins
        or not definition.server.measures(led.method_state)
    ):
        return led.best
    return after(
        led.best, definition.run.best, figures.metrics,
        exchange=current.index, round_=led.method_state.round - 1, epoch=led.checkpoints.get(current.index),
    )  # fmt: skip
