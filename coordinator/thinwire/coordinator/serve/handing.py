"""Uploads that any of several coordinators goes on with: whoever holds one puts what arrives into the store, chunk by
chunk, and hands it over when another is asked to go on.

Law: the death of a coordinator costs at most a chunk of what was sent to it, `PENDING_S` of a slow link, and what
arrived while a chunk was being stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterable
from typing import Any, Final

import structlog

from thinwire.coordinator.objects.partial import CHUNK, Partials
from thinwire.coordinator.objects.problems import storage_problem
from thinwire.coordinator.records.chunks import UploadLostError
from thinwire.coordinator.records.uploads import UploadRow
from thinwire.coordinator.signals.signals import Hint
from thinwire.methods.values import EVALUATE
from thinwire.protocol.reasons import ProblemError

from .chunks import WANTED, Chunks
from .tasks import TaskFacts
from .upload import Upload

PENDING_S: Final = 30.0
"""What a slow link has brought lies in the store within this time, though it is less than a chunk."""
_log = structlog.get_logger("thinwire.coordinator")


class Handing:
    """`held`: the uploads that go on here, which this takes from and adds to."""

    def __init__(self, chunks: Chunks, partials: Partials, held: dict[str, Upload]) -> None:
        self._chunks = chunks
        self._partials = partials
        self._held = held
        self._taking: dict[str, asyncio.Task[Upload]] = {}
        self._going: dict[str, asyncio.Task[None]] = {}
        self._writing: set[asyncio.Task[None]] = set()

    # -- taking over ------------------------------------------------------------------------------------------

    async def take(self, upload_id: str, client: str) -> Upload:
        """The upload goes on here from where another coordinator has stopped. Raises: `upload-not-found`,
        `storage-failed`, `storage-full`.
        """
        taking = self._taking.get(upload_id)
        if taking is None:
            taking = self._taking[upload_id] = asyncio.create_task(self._take(upload_id, client))
            taking.add_done_callback(lambda _: self._taking.pop(upload_id, None))
        try:
            return await asyncio.shield(taking)
        except OSError as error:
            raise storage_problem(error) from None

    async def _take(self, upload_id: str, client: str) -> Upload:
        if (going := self._going.get(upload_id)) is not None:  # its client has changed its mind
            await asyncio.wait({going})
        if (back := self._held.get(upload_id)) is not None:  # it could not go
            return back
        taken = await self._chunks.take(upload_id, client)
        row, offset = taken.row, taken.offset
        upload = self._held[row.id] = Upload(
            row.id, facts_of(row), row.length, row.digest, offset, time.monotonic(), interrupted=True,
            epoch=taken.epoch, elsewhere=offset, stored=offset, gathered=self.gathered,
        )  # fmt: skip
        return upload

    # -- handing over -----------------------------------------------------------------------------------------

    def hear(self, hints: Iterable[Hint]) -> None:
        """Begins to hand over what is wanted elsewhere."""
        for topic, item in hints:
            upload = self._held.get(topic.partition(":")[2]) if item == WANTED else None
            if upload is not None:
                self._hand_over(upload)

    def _hand_over(self, upload: Upload) -> asyncio.Task[None]:
        if (going := self._going.get(upload.id)) is None:
            going = self._going[upload.id] = asyncio.create_task(self._go(upload), name=f"hand-over-{upload.id}")
            going.add_done_callback(lambda _: self._going.pop(upload.id, None))
        return going

    async def _go(self, upload: Upload) -> None:
        await upload.settle()
        if self._held.pop(upload.id, None) is None:  # from now on nothing more of it arrives here
            return
        try:
            with contextlib.suppress(UploadLostError):
                await self._chunks.hand_over(upload)
        except (ProblemError, OSError) as error:
            _log.warning("an upload is not handed over yet", run=upload.run, error=str(error))
            self._held[upload.id] = upload
            return
        self._partials.delete([upload.id])
        self._chunks.handed(upload)

    async def close(self) -> None:
        """Hands everything over, to whoever is asked for it next."""
        if going := {self._hand_over(upload) for upload in list(self._held.values())} | self._writing:
            await asyncio.wait(going)
        await self._chunks.close()

    # -- storing what arrives ---------------------------------------------------------------------------------

    def gathered(self, upload: Upload) -> None:
        """A chunk more of it has arrived."""
        self._begin(self._write(upload, CHUNK))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        writing = asyncio.create_task(work)
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)

    async def save(self) -> None:
        """What slow links have brought lies in the store."""
        before = time.monotonic() - PENDING_S
        for upload in [one for one in self._held.values() if one.sure > one.stored and one.stored_at < before]:
            await self._write(upload, 1)

    async def _write(self, upload: Upload, least: int) -> None:
        try:
            await self._chunks.write(upload, least=least)
        except UploadLostError:
            if self._held.get(upload.id) is upload:  # it goes on elsewhere, or is over
                del self._held[upload.id]
                upload.cut()
                self._partials.delete([upload.id])
        except (ProblemError, OSError) as error:
            if upload.id in self._held:  # else it is over, and its file is gone
                _log.warning("a chunk is not stored yet", run=upload.run, error=str(error))


def facts_of(row: UploadRow) -> TaskFacts:
    """Of the task whose answer it is."""
    return TaskFacts(row.task, row.run, row.exchange, row.client, row.kind == EVALUATE)
