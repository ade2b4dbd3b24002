"""What has arrived of uploads, in chunks in the store that several coordinators share: any of them goes on there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from typing import Final

import structlog

from thinwire.coordinator.objects.objects import Objects, chunk
from thinwire.coordinator.objects.partial import CHUNK, Partials
from thinwire.coordinator.records.chunks import Chunks as ChunkRows
from thinwire.coordinator.records.chunks import Taken
from thinwire.coordinator.signals.signals import Signals
from thinwire.machine.workers import Workers
from thinwire.protocol.reasons import ProblemError

from .upload import Upload

ASK_S: Final = 0.5
"""Whoever holds an upload is asked this often for it: a hint may have been lost, and whoever lived may have died."""
HAND_OVER_S: Final = 20.0
"""Whoever lives and does not hand an upload over for so long is left behind."""
WANTED: Final = "wanted"
_log = structlog.get_logger("thinwire.coordinator")


class Chunks:
    """Chunks and their rows."""

    def __init__(
        self, rows: ChunkRows, partials: Partials, objects: Objects, signals: Signals, workers: Workers
    ) -> None:
        self.rows = rows
        self._partials = partials
        self._objects = objects
        self._signals = signals
        self._workers = workers
        self._clearing: set[asyncio.Task[None]] = set()

    async def take(self, upload: str, client: str) -> Taken:
        """The upload, once whoever holds it has put into the store what had arrived there, or lives no more; it goes on
        here. A file of it is there. Raises: `upload-not-found`, `storage-failed`, `storage-full`, OSError.
        """
        until = time.monotonic() + HAND_OVER_S
        with self._signals.subscribe(f"handed:{upload}") as heard:
            while (taken := await self.rows.take(upload, client, force=time.monotonic() >= until)) is None:
                self._signals.publish(f"upload:{upload}", WANTED)
                await heard.wait(ASK_S)
        self._partials.delete([upload])
        self._partials.create(upload, taken.offset)
        return taken

    async def hand_over(self, upload: Upload) -> None:
        """Whoever wants it finds all that had arrived here. Raises: `UploadLostError`, `storage-failed`,
        `storage-full`, OSError.
        """
        await self.write(upload)
        await self.rows.leave(upload.id, upload.epoch)

    def handed(self, upload: Upload) -> None:
        """Whoever waits for it need not wait any longer."""
        self._signals.publish(f"handed:{upload.id}")

    async def write(self, upload: Upload, *, least: int = 1) -> None:
        """What has arrived lies in the store, but for less than `least` bytes, and for what a reader is still to check.
        Raises: as `hand_over`.
        """
        async with upload.writing:
            while (size := min(CHUNK, upload.sure - upload.stored)) >= least:
                begins = upload.stored
                await self._workers.run(self._put, upload.id, upload.epoch, begins, size)
                await self.rows.add(upload.id, upload.epoch, begins, size)
                upload.stored += size
            upload.stored_at = time.monotonic()

    def _put(self, upload: str, epoch: int, begins: int, size: int) -> None:
        pieces = self._partials.pieces(upload, begins, begins + size)
        self._objects.put(chunk(upload, epoch, begins, size), pieces, durable=True)

    async def gather(self, upload: Upload) -> None:
        """What others have taken in of it is in its file too. Raises: `storage-failed`, OSError."""
        if upload.elsewhere:
            for one in await self.rows.of(upload.id):
                if one.offset < upload.elsewhere:
                    name = chunk(upload.id, one.epoch, one.offset, one.size)
                    await self._workers.run(self._fill, upload.id, one.offset, name)
            upload.elsewhere = 0

    def _fill(self, upload: str, offset: int, name: str) -> None:
        self._partials.fill(upload, offset, self._objects.local(name))

    async def clear(self, ids: Collection[str]) -> None:
        """Nothing of these is left in the store. Raises: `storage-failed`, `storage-full`, OSError."""
        if ids:
            await self._workers.run(self._delete, ids)
            await self.rows.forget(ids)

    def _delete(self, ids: Collection[str]) -> None:
        for upload in ids:
            if names := self._objects.names(f"chunks/{upload}"):
                self._objects.delete(names)

    def clear_soon(self, upload: str) -> None:
        """As `clear`, while nobody waits for it; what cannot be done now is swept later."""

        async def clear() -> None:
            try:
                await self.clear([upload])
            except (ProblemError, OSError) as error:
                _log.warning("chunks not deleted yet", error=str(error))

        clearing = asyncio.create_task(clear(), name=f"clear-{upload}")
        self._clearing.add(clearing)
        clearing.add_done_callback(self._clearing.discard)

    async def sweep(self, expires_s: float) -> None:
        """Nothing is left of uploads that are over, nor of those that nobody has gone on with for so long. Raises:
        `storage-failed`, `storage-full`, OSError.
        """
        names = await self._workers.run(self._objects.names, "chunks")  # before the rows, which come before chunks
        left = await self.rows.sweep(expires_s)
        if over := [name for name in names if name.split("/")[1] not in left]:
            await self._workers.run(self._objects.delete, over)

    async def close(self) -> None:
        """Waits for what is being deleted."""
        if self._clearing:
            await asyncio.wait(set(self._clearing))
