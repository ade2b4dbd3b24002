"""Answers as they arrive: stored, noted, told to the run's leader; and what it decides, told to their clients."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from thinwire.coordinator.objects.objects import Objects, answer
from thinwire.coordinator.records.answers import Answers as AnswerRows
from thinwire.coordinator.records.ledger import Ledger
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.records.tasks import Tasks
from thinwire.coordinator.runs.rows import TaskRow
from thinwire.coordinator.signals.signals import Signals
from thinwire.coordinator.wire.accounting import Account
from thinwire.machine.workers import Workers
from thinwire.protocol.fields import Verdict
from thinwire.protocol.messages import AnswerMessage
from thinwire.protocol.reasons import ProblemError

from .noting import Noting
from .uploads import Uploads

CHECK_S: Final = 15.0
"""A check that takes longer is answered with 202; the client asks again. Where a thousand answer at once the last waits
for all others, and to ask again costs as much as to answer: five times over, with 2 s.
"""
ARRIVES_S: Final = 1.0
"""What a client has sent may be read after its question what became of it, which came by another connection."""
_MOST_UNSURE: Final = 1 << 16


class Answers:
    """`answer` is safe to repeat: one answer of a task arrives, whoever asks how often. `durable`: what is acknowledged
    survives the death of the machine. `clock`: Unix seconds.
    """

    def __init__(
        self,
        runs: Runs,
        tasks: Tasks,
        rows: AnswerRows,
        uploads: Uploads,
        objects: Objects,
        signals: Signals,
        workers: Workers,
        noting: Noting,
        ledger: Ledger,
        *,
        durable: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._runs = runs
        self._tasks = tasks
        self._rows = rows
        self._uploads = uploads
        self._objects = objects
        self._signals = signals
        self._workers = workers
        self._noting = noting
        self._ledger = ledger
        self._durable = durable
        self._clock = clock
        self._arriving: dict[str, asyncio.Task[TaskRow]] = {}
        self._expected: dict[str, asyncio.Event] = {}
        self._unsure: OrderedDict[str, None] = OrderedDict()

    async def answer(
        self, client: str, task: str, message: AnswerMessage, account: Account | None = None
    ) -> Verdict | None:
        """What became of it; None while it is still being checked. `account`: of the request. Raises:
        `task-not-found`, `answer-invalid`, `payload-invalid`, `digest-mismatch`, `answer-not-found`,
        `upload-not-found`, `upload-incomplete`, `storage-failed`, `storage-full`.
        """
        if message.link is not None:
            self._ledger.report_link(client, *message.link, account)
        until = time.monotonic() + CHECK_S
        with self._signals.subscribe(f"task:{task}") as heard:
            row = await self._tasks.get(task, client)
            waited = row.state == "open" or row.lapsed or task in self._unsure
            if row.state == "open" or row.lapsed:
                arriving = self._arriving.get(task)
                if arriving is None and message.received is None:
                    arriving = self._arrive(row, message)
                elif arriving is None:
                    arriving = await self._sent_before(row, message.received or b"")
                if arriving is not None:
                    await asyncio.wait({arriving}, timeout=CHECK_S)
                    if not arriving.done():
                        return await self._not_yet(row)
                    row = arriving.result()
            while row.state == "open":
                hints = await heard.wait(max(0.0, until - time.monotonic()))
                row = await self._tasks.get(task, client)
                if row.state == "open" and not hints:
                    return await self._not_yet(row)
        self._unsure.pop(task, None)
        if row.state == "refused":
            raise ProblemError(row.reason or "answer-invalid", row.detail or "")
        if row.state == "late":
            return "late"
        return "accepted" if waited else "duplicate"

    async def decline(self, client: str, task: str, detail: str) -> None:
        """Closes the slot of a task that its client gives up; one that is answered, or arriving, stays as it is.

        Raises: `task-not-found`, `storage-failed`, `storage-full`.
        """
        if task in self._arriving:
            return
        run = await self._tasks.decline(task, client, detail, self._clock())
        if run is not None:
            self._signals.publish(f"run:{run}", f"task:{task}")

    async def close(self) -> None:
        """Waits for what is being stored."""
        if self._arriving:
            await asyncio.wait(set(self._arriving.values()))

    async def _not_yet(self, row: TaskRow) -> Verdict | None:
        """Nothing has been decided for so long. Where the run waits for an operator, nobody knows for how much longer:
        the answer is given up, so that its client does not send it again and again.
        """
        if (
            row.id not in self._arriving
            and (await self._runs.get(row.run)).damaged
            and await self._rows.withdraw(row.id)
        ):
            await self._drop(row)
            return "late"
        # Whoever asks again hears of the verdict for the first time.
        self._unsure[row.id] = None
        while len(self._unsure) > _MOST_UNSURE:
            self._unsure.popitem(last=False)
        return None

    # -- storing ----------------------------------------------------------------------------------------------

    async def _sent_before(self, row: TaskRow, digest: bytes) -> asyncio.Task[TaskRow] | None:
        """The answer with this digest, which its client has sent before, where it is arriving; None where it has
        arrived, or its task is decided. Raises: `answer-not-found`, `storage-failed`.
        """
        for waits in (True, False):
            noted = await self._rows.undecided(row.run, row.exchange, {row.id})
            if noted and noted[0].digest == digest:
                return None
            if noted or not waits:
                break
            expected = self._expected.setdefault(row.id, asyncio.Event())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(expected.wait(), ARRIVES_S)
            self._expected.pop(row.id, None)
            if (arriving := self._arriving.get(row.id)) is not None:
                return arriving
        if (await self._tasks.get(row.id, row.client)).state != "open":
            return None
        raise ProblemError("answer-not-found")

    def _arrive(self, row: TaskRow, message: AnswerMessage) -> asyncio.Task[TaskRow]:
        """Goes on when whoever asked has gone. A failure is not remembered: the client may send the answer again."""
        arriving = asyncio.create_task(self._keep(row, message), name=f"arrive-{row.id}")
        self._arriving[row.id] = arriving
        if (expected := self._expected.get(row.id)) is not None:
            expected.set()

        def ended(done: asyncio.Task[TaskRow]) -> None:
            del self._arriving[row.id]
            if not done.cancelled():
                done.exception()  # whoever still waits for it has it too

        arriving.add_done_callback(ended)
        return arriving

    async def _keep(self, row: TaskRow, message: AnswerMessage) -> TaskRow:
        """Stored, noted, told. The task as it stands."""
        with self._noting.storing(row.run):
            if message.upload is not None:
                row = await self._keep_upload(row, message, message.upload)
            elif message.payload:
                row = await self._keep_inline(row, message, message.payload)
            else:
                row = await self._note(row, message, None, 0)
        self._signals.publish(f"run:{row.run}", f"answer:{row.id}")
        return row

    async def _keep_inline(self, row: TaskRow, message: AnswerMessage, data: bytes) -> TaskRow:
        if not await self._workers.run(self._put, row.id, data):
            if await self._is_noted(row):
                return row
            # A process died between storing and noting: what is sent now counts.
            await self._drop(row)
            await self._workers.run(self._put, row.id, data)
        try:
            return await self._note(row, message, hashlib.sha256(data).digest(), len(data))
        except BaseException:
            await self._drop(row)
            raise

    async def _keep_upload(self, row: TaskRow, message: AnswerMessage, upload_id: str) -> TaskRow:
        if await self._is_noted(row):
            return row
        upload = await self._uploads.complete(upload_id, row.id, row.client, partial(self._take, row.id))
        # Where it cannot be noted, the file stays what has arrived of the upload.
        row = await self._note(row, message, upload.digest, upload.length)
        self._uploads.end(upload)
        return row

    async def _note(self, row: TaskRow, message: AnswerMessage, digest: bytes | None, size: int) -> TaskRow:
        noted = await self._rows.arrive(
            row.id, row.client, message.examples, message.metrics, digest, size, self._clock(),
            upload=message.upload, durable=self._durable,
        )  # fmt: skip
        if noted.state in ("late", "refused"):  # meanwhile
            await self._drop(row)
        return noted

    async def _is_noted(self, row: TaskRow) -> bool:
        return bool(await self._rows.undecided(row.run, row.exchange, {row.id}))

    async def _drop(self, row: TaskRow) -> None:
        with contextlib.suppress(OSError):
            await self._workers.run(self._objects.delete, [answer(row.id)])

    def _put(self, task: str, data: bytes) -> bool:
        """In a thread: whether there was none."""
        try:
            self._objects.local(answer(task))
        except FileNotFoundError:
            self._objects.put(answer(task), data, durable=self._durable)
            return True
        return False

    def _take(self, task: str, path: Path) -> None:
        """In a thread: the file is the task's answer from now on, if it is not already."""
        name = answer(task)
        with contextlib.suppress(FileNotFoundError):
            if self._objects.local(name) == path:
                return
            self._objects.delete([name])
        self._objects.take(path, name, durable=self._durable)
