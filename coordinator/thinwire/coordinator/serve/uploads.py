"""Large answers as they arrive: resumable uploads, appended chunk by chunk.

Law: no byte that was received is asked for again. An upload's offset is the size of its file, so it survives
every crash of the process; where several coordinators take uploads in, any of them goes on with one, and a crash costs
at most a chunk of it (`chunks`). Only the newest reader may append. When a client asks where to go on, what its older
connection still delivers is taken first; when that connection is silent it is cut off.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import structlog

from thinwire.coordinator.objects.objects import Objects, answer
from thinwire.coordinator.objects.partial import Partials
from thinwire.coordinator.records.uploads import UploadRow
from thinwire.coordinator.records.uploads import Uploads as UploadRows
from thinwire.coordinator.runs.identity import fresh_id
from thinwire.coordinator.signals.signals import Signals, Subscription
from thinwire.machine.files import file_digest
from thinwire.machine.workers import Workers
from thinwire.protocol.reasons import ProblemError

from .chunks import Chunks
from .handing import Handing, facts_of
from .noting import Noting
from .quotas import Quotas
from .tasks import TaskFacts
from .upload import Reader, Upload

_log = structlog.get_logger("thinwire.coordinator")


class Uploads:
    """All uploads of this process, in memory; a file and a row each outlive it. `load` first; `follow` for as long as
    the process lives. `shared`: others take in uploads too; `chunks`: and go on with these. `clock`: Unix seconds.
    """

    def __init__(
        self,
        rows: UploadRows,
        partials: Partials,
        objects: Objects,
        signals: Signals,
        quotas: Quotas,
        workers: Workers,
        noting: Noting,
        *,
        expires_s: float,
        shared: bool = False,
        chunks: Chunks | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rows = rows
        self._partials = partials
        self._objects = objects
        self._signals = signals
        self._quotas = quotas
        self._workers = workers
        self._noting = noting
        self._expires_s = expires_s
        self._shared = shared
        self._chunks = chunks
        self._clock = clock
        self._uploads: dict[str, Upload] = {}
        self._heard: Subscription | None = None
        self._handing = None if chunks is None else Handing(chunks, partials, self._uploads)

    async def load(self) -> None:
        """Forgets files without a row and rows without a file. An upload that had become an answer which was never
        noted is an upload again. All have their whole time left: the wall clock may have moved meanwhile.

        Raises: `storage-failed`, `storage-full`, `OSError`.
        """
        if self._chunks is not None:  # the store has what counts
            await self._workers.run(self._drop_all_but, set())
            return
        lost = []
        for row in await self._rows.all():
            offset = await self._workers.run(self._arrived, row)
            if offset is None:
                lost.append(row.id)
                continue
            now = time.monotonic()
            self._uploads[row.id] = Upload(row.id, facts_of(row), row.length, row.digest, offset, now, interrupted=True)
        if not self._shared:  # else they lie with another
            await self._rows.delete(lost)
        await self._workers.run(self._drop_all_but, set(self._uploads))

    def _arrived(self, row: UploadRow) -> int | None:
        """How much of it is there; None where it is lost, or has become an answer."""
        with contextlib.suppress(FileNotFoundError):
            offset = min(self._partials.offset(row.id), row.length)
            self._partials.truncate(row.id, offset)
            return offset
        with contextlib.suppress(FileNotFoundError):
            taken = self._objects.local(answer(row.task)).stat().st_size
            return taken if row.task_state == "open" and taken == row.length else None
        return None

    def _drop_all_but(self, kept: set[str]) -> None:
        self._partials.delete(self._partials.ids() - kept)

    async def follow(self) -> None:
        """Forgets the uploads of exchanges that are closed, until cancelled."""
        with self._signals.subscribe() as heard:
            self._heard = heard
            for upload in self._uploads.values():
                self._listen(upload)
            while True:
                closed = await heard.wait()
                if self._handing is not None:
                    self._handing.hear(closed)
                uploads = self._uploads.values()
                over = [one for one in uploads if (f"closed:{one.run}", str(one.task.exchange)) in closed]
                try:
                    await self._forget(over)
                except (ProblemError, OSError) as error:
                    _log.error("uploads not forgotten", error=str(error))

    # -- beginning --------------------------------------------------------------------------------------------

    async def create(self, task: TaskFacts, length: int, digest: bytes) -> Upload:
        """The upload of this payload: the one there is, where it was begun already.

        Raises: `task-not-found`, `too-many-requests`, `quota-exceeded`, `storage-full`, `storage-failed`.
        """
        with self._noting.storing(task.run):
            if self._quotas.limits_disk:
                await self._workers.run(self._quotas.measure)
            if self._chunks is not None:
                for begun in await self._chunks.rows.begun(task=task.id):
                    await self.locate(begun, task.client)
            while mine := [upload for upload in self._uploads.values() if upload.task.id == task.id]:
                for upload in mine:
                    if upload.length == length and upload.digest == digest:
                        return upload
                await self._forget(mine)
            self._quotas.check_upload(self._uploads.values(), task.client, task.run, length)
            gathered = None if self._handing is None else self._handing.gathered
            new = Upload(fresh_id(), task, length, digest, 0, time.monotonic(), gathered=gathered)
            return await self._begin(new)

    async def _begin(self, upload: Upload) -> Upload:
        self._uploads[upload.id] = upload  # promised before anything is awaited
        try:
            self._partials.create(upload.id)
            task, client = upload.task.id, upload.client
            holder = None if self._chunks is None else self._chunks.rows.holder
            await self._rows.create(upload.id, task, client, upload.length, upload.digest, self._clock(), holder)
        except BaseException:
            self._cut([upload])
            self._partials.delete([upload.id])
            raise
        self._listen(upload)
        return upload

    def _listen(self, upload: Upload) -> None:
        if self._heard is not None:
            self._heard.add(f"closed:{upload.run}")
            if self._chunks is not None:
                self._heard.add(f"upload:{upload.id}")

    def find(self, upload_id: str, client: str) -> Upload:
        """Raises: `upload-not-found`, also for another client's upload."""
        upload = self._uploads.get(upload_id)
        if upload is None or upload.client != client:
            raise ProblemError("upload-not-found")
        return upload

    async def locate(self, upload_id: str, client: str) -> Upload:
        """As `find`, wherever what has arrived of it arrived: it goes on here. Waits for nothing where it is here.
        Raises also: `storage-failed`, `storage-full`.
        """
        if upload_id not in self._uploads and self._handing is not None:
            self._listen(await self._handing.take(upload_id, client))
        return self.find(upload_id, client)

    async def save(self) -> None:
        """What slow links have brought lies in the store, where others go on with uploads too."""
        if self._handing is not None:
            await self._handing.save()

    async def sweep(self) -> None:
        """What is over elsewhere leaves nothing. Raises: `storage-failed`, `storage-full`, OSError."""
        if self._chunks is not None:
            await self._chunks.sweep(self._expires_s)

    async def close(self) -> None:
        """Others may go on at once with what is here."""
        if self._handing is not None:
            await self._handing.close()

    def expires_at(self, upload: Upload) -> float:
        """Unix seconds at which it is deleted, if nobody goes on with it."""
        return self._clock() + upload.touched_at + self._expires_s - time.monotonic()

    # -- appending --------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self, upload: Upload, *, checked: bool = False) -> Iterator[Reader]:
        """The upload's newest reader; older ones end. `checked`: what it appends has a checksum, and counts once that
        is right. What goes wrong is noted. Raises: `storage-failed`, `storage-full`.
        """
        with (
            self._noting.storing(upload.run),
            self._partials.appending(upload.id) as tail,
            upload.reading(tail, checked=checked) as reader,
        ):
            yield reader

    async def checksum(self, upload: Upload, reader: Reader, algorithm: str) -> bytes:
        """Of what this reader has appended. Raises: OSError."""
        ends = upload.offset
        return await self._workers.run(self._partials.checksum, upload.id, reader.begins, ends, algorithm)

    # -- ending -----------------------------------------------------------------------------------------------

    async def complete(self, upload_id: str, task: str, client: str, take: Callable[[Path], None]) -> Upload:
        """A complete upload. `take` is given its file, in a thread, once it is found to have the digest that was
        announced; one that has another is forgotten.

        Raises: `upload-not-found`, `upload-incomplete`, `digest-mismatch`, `storage-failed`, `storage-full`, OSError.
        """
        upload = await self.locate(upload_id, client)
        if upload.task.id != task:
            raise ProblemError("upload-not-found", "the upload belongs to another task")
        if upload.offset != upload.length:
            raise ProblemError("upload-incomplete", f"{upload.offset} of {upload.length} bytes have arrived")
        path = self._partials.path(upload_id)
        if not path.exists():  # it was taken for an answer that could not be noted
            path = self._objects.local(answer(task))
        elif self._chunks is not None:
            await self._chunks.gather(upload)

        def check() -> bytes:
            found = file_digest(path)
            if found == upload.digest:
                take(path)
            return found

        digest = await self._workers.run(check)
        if digest != upload.digest:
            await self._forget([upload])
            raise ProblemError("digest-mismatch", f"{digest.hex()} arrived where {upload.digest.hex()} was announced")
        return upload

    def end(self, upload: Upload) -> None:
        """It has become an answer, and its row is gone."""
        self._cut([upload])
        if self._chunks is not None:
            self._chunks.clear_soon(upload.id)

    async def forget(self, upload: Upload) -> None:
        """Deletes the upload and what is left of its file. Raises: `storage-failed`, `storage-full`, OSError."""
        await self._forget([upload])

    async def _forget(self, uploads: Collection[Upload]) -> None:
        ids = [upload.id for upload in uploads]
        self._cut(uploads)
        self._partials.delete(ids)
        await self._rows.delete(ids)
        if self._chunks is not None:
            await self._chunks.clear(ids)

    def _cut(self, uploads: Collection[Upload]) -> None:
        """Nobody goes on with these from now on."""
        for upload in uploads:
            self._uploads.pop(upload.id, None)
            upload.cut()
            if self._chunks is not None and self._heard is not None:
                self._heard.drop(f"upload:{upload.id}")

    async def release_client(self, client: str) -> None:
        """Deletes the uploads of this client. Raises: `storage-failed`, `storage-full`, OSError."""
        await self._forget([upload for upload in self._uploads.values() if upload.client == client])
        if self._chunks is not None:
            ids = await self._chunks.rows.begun(client=client)
            await self._rows.delete(ids)
            await self._chunks.clear(ids)

    def stop(self, client: str) -> None:
        """Cuts off whoever is appending for this client; what has arrived stays."""
        for upload in self._uploads.values():
            if upload.client == client:
                upload.cut()

    async def expire(self, now: float) -> None:
        """Deletes what nobody goes on with. `now`: monotonic seconds. Raises: `storage-failed`, `storage-full`."""
        await self._forget([one for one in self._uploads.values() if now - one.touched_at > self._expires_s])

    @property
    def promised_bytes(self) -> int:
        """What all open uploads will hold when they are complete."""
        return sum(upload.length for upload in self._uploads.values())
