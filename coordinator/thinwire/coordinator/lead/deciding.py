"""Deciding on answers: decoded and checked aside, accepted or refused, noted, added to the sum.

The verdict is decided on the event loop, in the order in which checks finish; it is told when the database has it.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog

from thinwire.codecs import CodecError
from thinwire.coordinator.decoding.coded import Coded, Decode
from thinwire.coordinator.objects.objects import Objects, answer
from thinwire.coordinator.objects.problems import storage_problem
from thinwire.coordinator.records.answers import Answers
from thinwire.coordinator.records.tasks import Tasks
from thinwire.coordinator.records.troubles import Troubles
from thinwire.coordinator.runs.exchange import SlotState
from thinwire.coordinator.runs.metrics import Told
from thinwire.coordinator.runs.rows import AnswerRow
from thinwire.coordinator.runs.tally import Tally
from thinwire.coordinator.signals.signals import Signals
from thinwire.machine.workers import Workers
from thinwire.methods.payloads import decode_answer
from thinwire.methods.values import Contribution
from thinwire.protocol.identity import client_seed

from .clock import Clock
from .current import Current, Led

_LONGEST_DETAIL = 1000
_log = structlog.get_logger("thinwire.coordinator")


class Deciding:
    """For all runs that this process leads. One answer per thread is decoded at a time, so memory does not grow with
    the clients. `durable`: an accepted answer outlives the machine, not only the process.
    """

    def __init__(
        self,
        tasks: Tasks,
        answers: Answers,
        troubles: Troubles,
        tally: Tally,
        objects: Objects,
        signals: Signals,
        workers: Workers,
        clock: Clock,
        decode: Decode,
        *,
        durable: bool,
    ) -> None:
        self._tasks = tasks
        self._answers = answers
        self._troubles = troubles
        self._tally = tally
        self._objects = objects
        self._signals = signals
        self._workers = workers
        self._clock = clock
        self._decode_stored = decode
        self._durable = durable
        self._decoding = asyncio.Semaphore(workers.threads)

    async def decide(self, led: Led, current: Current, row: AnswerRow, *, verify: bool) -> bool:
        """Gives the answer its verdict, and adds it where it counts. `verify`: its payload was stored by a process that
        has died. Whether it has one now: where the exchange has its answers, it waits for the next of an asynchronous
        run. Raises: `storage-failed`, `storage-full`, `LeaseLostError`; then it is undecided still.
        """
        async with self._decoding:
            try:
                contribution = await self._workers.run(self.read, led, current, row, verify=verify)
            except CodecError as error:
                reason = "payload-invalid" if error.reason in ("malformed", "too-large") else "answer-invalid"
                await self._refuse(led, current, row, reason, str(error))
                return True
            except OSError as error:
                _log.warning("a stored answer cannot be read; it is asked for again", task=row.task, error=str(error))
                self._troubles.note(led.id, "answers", storage_problem(error))
                await self._answers.withdraw(row.task)
                self._told(led, row)
                return True
            verdict = current.exchange.accept(row.slot, row.offer)
            if verdict == "waits":
                return False
            if verdict == "accepted":
                await self._accept(led, current, row, contribution)
                return True
            if current is led.current and not current.exchange.closed:
                await self._decide(led, current, row, "late")
        self._told(led, row)
        return True

    async def _accept(self, led: Led, current: Current, row: AnswerRow, contribution: Contribution) -> None:
        exchange = current.exchange
        current.sum.adding += 1
        try:
            try:
                changed = await self._decide(led, current, row, "accepted")
            except BaseException:
                exchange.retract(row.slot, row.offer)
                raise
            if not changed:  # its client was shut out while it was checked, or the exchange offered again
                if exchange.retract(row.slot, row.offer):
                    exchange.lose(row.client)
                self._told(led, row)
                return
            self._troubles.note(led.id, "answers", None)
            current.metrics_by_slot[row.slot] = Told(contribution.examples, row.metrics)
            _may_ask_again(current, row)
            self._told(led, row)
            await self.add(led, current, contribution)
        finally:
            current.sum.adding -= 1

    async def add(self, led: Led, current: Current, contribution: Contribution) -> None:
        """Adds it to the sum of the exchange; an evaluation has none."""
        if current.is_evaluation:
            return
        async with current.sum.lock:
            # A sum that failed half-way is worth nothing: without it the exchange cannot close, and the run fails.
            total, current.sum.total = current.sum.total, None
            current.sum.total = await self._workers.run(led.definition.server.reducer.add, total, contribution)

    def read(self, led: Led, current: Current, row: AnswerRow, *, verify: bool) -> Contribution:
        """In a thread: the contribution that lies in the objects, decoded and checked; kept on disk where the reducer
        keeps it. `verify`: looks whether the payload has its digest. Raises: `CodecError`, `OSError`.
        """
        settings, asked = led.definition.run, current.asked_with(row.exchange)
        task, most = asked.task, asked.max_payload_bytes
        if row.size > most:
            raise CodecError("too-large", f"a payload of {row.size} bytes; at most {most}")
        if row.examples < 1:
            raise CodecError("out-of-range", "examples: 0; an answer stands for at least one")
        seed = client_seed(settings.seed, task.round, task.step, row.client)
        chain, reference = asked.chains.up, asked.reference
        if row.digest is None:
            arrays = decode_answer(b"", task.reply, chain, reference=reference, seed=seed)
        else:
            # Where several take in answers, two may have stored one under the same name.
            digest = row.digest if verify or self._objects.is_shared else None
            path, exchange = self._objects.local(answer(row.task)), f"{led.id}/{row.exchange}"
            answers = current.exchange.policy.cohort
            arrays = self._decode_stored(Coded(path, digest, task.reply, chain, seed, reference, exchange, answers))
        examples = min(row.examples, settings.max_examples)
        staleness = current.index - row.exchange
        contribution = Contribution(row.slot, row.client, examples, arrays, dict(row.metrics), staleness)
        if current.is_evaluation:
            return contribution
        reducer = led.definition.server.reducer
        contribution = reducer.check(contribution)
        return replace(contribution, arrays=current.spool.keep(contribution.arrays)) if reducer.keeps else contribution

    async def _refuse(self, led: Led, current: Current, row: AnswerRow, reason: str, detail: str) -> None:
        """Closes the slot of an invalid answer; the same answer is refused with the same words again."""
        detail = detail[:_LONGEST_DETAIL]
        if await self._decide(led, current, row, "refused", reason, detail):
            current.exchange.refuse(row.slot)
            _may_ask_again(current, row)
            _log.warning("answer refused", run=led.id, client=row.client, reason=reason, detail=detail)
        self._told(led, row)

    async def _decide(
        self,
        led: Led,
        current: Current,
        row: AnswerRow,
        state: SlotState,
        reason: str | None = None,
        detail: str | None = None,
    ) -> bool:
        count, now = current.exchange.count("accepted"), self._clock.wall()
        decided = await self._tasks.verdict(
            led.lease, row.task, state, reason, detail, count, now,
            at=current.index, durable=self._durable and state == "accepted",
        )  # fmt: skip
        if decided and state != "open":
            self._tally.answer(led.id, state, now)
        return decided

    def _told(self, led: Led, row: AnswerRow) -> None:
        self._signals.publish(f"task:{row.task}")
        self._signals.publish(f"events:{led.id}")


def _may_ask_again(current: Current, row: AnswerRow) -> None:
    """Whoever has answered an earlier exchange of an asynchronous run may be asked by this one."""
    if current.asked.newcomers is not None and row.exchange < current.index:
        current.asked.newcomers.add(row.client)
