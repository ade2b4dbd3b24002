"""Answers: decoded and checked in a thread, stored, counted, added to the sum.

The verdict is decided on the event loop, in the order in which checks finish; it is told when the database has it.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any, cast

import structlog
from sqlalchemy import Row, select, update

from thinwire.codecs import CodecError
from thinwire.methods.payloads import decode_answer
from thinwire.methods.values import Contribution
from thinwire.protocol.fields import Verdict
from thinwire.protocol.identity import client_seed
from thinwire.protocol.messages import AnswerMessage
from thinwire.protocol.reasons import ProblemError

from . import tables
from .access import Client
from .exchange import Slot, accept, lose, refuse, retract
from .folder import read_mapped
from .runs import OpenExchange, Run, Told, admitted, is_evaluation
from .store import Statement
from .troubles import noted

if TYPE_CHECKING:
    from .coordinator import Coordinator

CHECK_S = 2.0
"""A check that takes longer is answered with 202; the client asks again."""
_log = structlog.get_logger("thinwire.coordinator")


class Intake:
    """`answer` is safe to repeat: the same task is checked once, whoever asks how often."""

    def __init__(self, coordinator: Coordinator, workers: int) -> None:
        self._coordinator = coordinator
        self._checks: dict[str, asyncio.Task[Verdict]] = {}
        # One answer per thread is decoded at a time, so memory does not grow with the clients.
        self._decoding = asyncio.Semaphore(workers)

    async def answer(self, client: Client, task: str, message: AnswerMessage) -> Verdict | None:
        """What became of it; None while it is still being checked. Raises: `task-not-found`, `answer-invalid`,
        `payload-invalid`, `digest-mismatch`, `upload-not-found`, `upload-incomplete`, `storage-failed`, `storage-full`.
        """
        check = self._checks.get(task)
        found = self._coordinator.task_of(client.name, task)
        if found is None:
            return await self._past(client, task)
        run, opened, index = found
        if check is None:
            slot = opened.exchange.slots[index]
            if slot.state == "accepted":
                return "duplicate"
            if slot.state == "late":
                return "late"
            if slot.state == "refused":
                raise ProblemError(*opened.refusals[index])
            check = asyncio.create_task(self._check(run, opened, slot, message), name=f"check-{task}")
            self._checks[task] = check
            # A failed check is not remembered: the client may send the answer again.
            check.add_done_callback(lambda done: self._forget(task, done))
        done, _ = await asyncio.wait({check}, timeout=CHECK_S)
        if not done:
            return None
        self._checks.pop(task, None)
        return check.result()

    async def decline(self, client: Client, task: str, detail: str) -> None:
        """Closes the slot of a task that its client gives up; one that is answered, or being checked, stays as it is.

        Raises: `task-not-found`, `storage-failed`, `storage-full`.
        """
        found = self._coordinator.task_of(client.name, task)
        if found is None:
            await self._row(client, task)
            return
        run, opened, index = found
        if task in self._checks or opened.exchange.slots[index].state != "open":
            return
        opened.exchange = lose(opened.exchange, client.name)
        opened.declined[client.name] = detail
        run.wake.set()
        table = tables.tasks
        values = {"state": "late", "reason": "declined", "detail": detail}
        await self._coordinator.store.write(update(table).where(table.c.id == task).values(**values))
        _log.warning("task declined", run=run.id, client=client.name, detail=detail)

    def _forget(self, task: str, check: asyncio.Task[Verdict]) -> None:
        if check.cancelled() or check.exception() is not None:
            self._checks.pop(task, None)

    async def close(self) -> None:
        """Waits for the checks under way."""
        if self._checks:
            await asyncio.wait(set(self._checks.values()))

    def forget(self, tasks: list[str]) -> None:
        """Of a closed exchange: what nobody asked for again."""
        for task in tasks:
            check = self._checks.get(task)
            if check is not None and check.done():
                del self._checks[task]

    async def _past(self, client: Client, task: str) -> Verdict:
        """The verdict on a task whose exchange is closed."""
        check = self._checks.pop(task, None)
        row = await self._row(client, task)
        if check is not None and check.done():
            return check.result()
        if row.state == "refused":
            raise ProblemError(row.reason or "answer-invalid", row.detail or "")
        return "duplicate" if row.state == "accepted" else "late"

    async def _row(self, client: Client, task: str) -> Row[Any]:
        """Raises: `task-not-found`, also for another client's task."""
        rows = await self._coordinator.store.read(select(tables.tasks).where(tables.tasks.c.id == task))
        if not rows or rows[0].client != client.name:
            raise ProblemError("task-not-found")
        return rows[0]

    async def _check(self, run: Run, opened: OpenExchange, slot: Slot, message: AnswerMessage) -> Verdict:
        async with self._decoding:
            try:
                contribution, digest = await self._coordinator.compute(self._decode, run, opened, slot, message)
            except CodecError as error:
                reason = "payload-invalid" if error.reason in ("malformed", "too-large") else "answer-invalid"
                raise await self._refuse(run, opened, slot, reason, str(error)) from None
            except ProblemError as error:
                if error.reason == "digest-mismatch" and message.upload is not None:
                    await self._coordinator.uploads.forget(message.upload)
                raise
            opened.exchange, verdict = accept(opened.exchange, slot.index)
            if verdict != "accepted":
                run.wake.set()
                return verdict
            opened.adding += 1
            try:
                await self._keep(run, opened, slot, message, contribution, digest)
                if not is_evaluation(opened.task):
                    await self._add(run, opened, contribution)
            finally:
                opened.adding -= 1
                run.wake.set()
        run.tell("answer", f'{{"exchange":{opened.index},"answers":{opened.exchange.count("accepted")}}}')
        return verdict

    def _decode(
        self, run: Run, opened: OpenExchange, slot: Slot, message: AnswerMessage
    ) -> tuple[Contribution, bytes | None]:
        """In a thread: the checked contribution, and the digest of its payload."""
        settings, task = run.definition.run, opened.task
        data, digest = message.payload or b"", None
        if message.upload is not None:
            path = self._coordinator.uploads.finished(message.upload, opened.id_of(run.id, slot), slot.client)
            data = cast(bytes, read_mapped(path))  # a mapped file reads like bytes
            digest = hashlib.sha256(data).digest()
            self._coordinator.uploads.check_digest(message.upload, digest)
        elif data:
            digest = hashlib.sha256(data).digest()
        if len(data) > opened.max_payload_bytes:
            raise CodecError("too-large", f"a payload of {len(data)} bytes; at most {opened.max_payload_bytes}")
        if message.examples < 1:
            raise CodecError("out-of-range", "examples: 0; an answer stands for at least one")
        seed = client_seed(settings.seed, task.round, task.step, slot.client)
        arrays = decode_answer(data, task.reply, opened.chains.up, reference=opened.reference, seed=seed)
        examples = min(message.examples, settings.max_examples)
        return admitted(run, opened, Contribution(slot.index, slot.client, examples, arrays, message.metrics)), digest

    async def _keep(
        self,
        run: Run,
        opened: OpenExchange,
        slot: Slot,
        message: AnswerMessage,
        contribution: Contribution,
        digest: bytes | None,
    ) -> None:
        """Stores an accepted answer; where that fails the slot is open again."""
        coordinator, table = self._coordinator, tables.tasks
        task = opened.id_of(run.id, slot)
        values = {"state": "accepted", "examples": contribution.examples, "metrics": dict(message.metrics)}
        noting: list[Statement] = [update(table).where(table.c.id == task).values(**values, digest=digest)]
        try:
            with noted(run, "answers"):
                if message.upload is not None:
                    await coordinator.compute(coordinator.folder.take_upload, message.upload, task)
                    noting.append(coordinator.uploads.without(message.upload))
                elif message.payload:
                    await coordinator.compute(coordinator.folder.put_answer, task, message.payload)
                await coordinator.store.write(*noting, durable=coordinator.settings.durability == "fsync")
        except BaseException:
            opened.exchange = retract(opened.exchange, slot.index)
            if message.upload is not None:
                await coordinator.compute(coordinator.folder.give_back, message.upload, task)
            raise
        if message.upload is not None:
            coordinator.uploads.end(message.upload)
        opened.told[slot.index] = Told(contribution.examples, dict(message.metrics))

    async def _add(self, run: Run, opened: OpenExchange, contribution: Contribution) -> None:
        async with opened.summing:
            # A sum that failed half-way is worth nothing: without it the exchange cannot close, and the run fails.
            total, opened.total = opened.total, None
            opened.total = await self._coordinator.compute(run.definition.server.reducer.add, total, contribution)

    async def _refuse(self, run: Run, opened: OpenExchange, slot: Slot, reason: str, detail: str) -> ProblemError:
        """Closes the slot of an invalid answer; the same answer is refused with the same words again."""
        detail = detail[:1000]
        opened.exchange = refuse(opened.exchange, slot.index)
        opened.refusals[slot.index] = (reason, detail)
        table = tables.tasks
        await self._coordinator.store.write(
            update(table)
            .where(table.c.id == opened.id_of(run.id, slot))
            .values(state="refused", reason=reason, detail=detail)
        )
        _log.warning("answer refused", run=run.id, client=slot.client, reason=reason, detail=detail)
        run.tell("answer", f'{{"exchange":{opened.index},"answers":{opened.exchange.count("accepted")}}}')
        run.wake.set()
        return ProblemError(reason, detail)
