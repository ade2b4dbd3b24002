"""Large answers as they arrive: resumable uploads, appended chunk by chunk.

Law: no byte that was received is asked for again. An upload's offset is the size of its file, so it survives
every crash of the process. Only the newest reader may append. When a client asks where to go on, what its older
connection still delivers is taken first; when that connection is silent it is cut off.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import secrets
import string
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import delete, insert, select

from thinwire.protocol.reasons import ProblemError

from . import tables
from .folder import Folder
from .quotas import Quotas
from .store import Statement, Store

QUIET_S: Final = 0.1
"""An older connection that brings nothing for this long has delivered what had arrived of it."""
SETTLE_S: Final = 5.0
"""An older connection that goes on delivering is cut off after this long: its client waits for the offset."""
_BLOCK: Final = 1 << 20
_ALPHABET = string.ascii_lowercase + string.digits


def fresh_id(length: int = 8) -> str:
    """A random id."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


@dataclass(slots=True)
class Upload:
    """`reader`: the newest of those who have begun to append; `ended`: set when it has ended; `interrupted`: the last
    one ended before its client meant to; `touched_at`: monotonic seconds of the last byte.
    """

    id: str
    task: str
    client: str
    run: str
    length: int
    digest: bytes
    offset: int
    touched_at: float
    reader: int = 0
    ended: asyncio.Event | None = None
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class Reader:
    """One request that appends to the file of `descriptor`, from offset `begins` on."""

    descriptor: int
    number: int
    begins: int


class Uploads:
    """All uploads, in memory; the files and one row each outlive the process."""

    def __init__(self, store: Store, folder: Folder, quotas: Quotas, *, expires_s: float) -> None:
        self._store = store
        self._folder = folder
        self._quotas = quotas
        self.expires_s = expires_s
        self._uploads: dict[str, Upload] = {}

    async def load(self) -> None:
        """Forgets files without a row and rows without a file. An upload that had become an answer which was never
        noted is an upload again. All have their whole time left: the wall clock may have moved meanwhile.
        """
        uploads, tasks = tables.uploads, tables.tasks
        known = select(uploads, tasks.c.run, tasks.c.state).join(tasks, tasks.c.id == uploads.c.task)
        for row in await self._store.read(known):
            path = self._folder.upload(row.id)
            if not path.exists() and row.state != "accepted":
                self._folder.give_back(row.id, row.task)
            if path.exists():
                offset = min(path.stat().st_size, row.length)
                os.truncate(path, offset)
                self._uploads[row.id] = Upload(
                    row.id,
                    row.task,
                    row.client,
                    row.run,
                    row.length,
                    row.digest,
                    offset,
                    time.monotonic(),
                    interrupted=True,
                )
            else:
                await self._store.write(self.without(row.id))
        for path in (self._folder.root / "uploads").iterdir():
            if path.name not in self._uploads:
                path.unlink()

    async def create(self, client: str, task: str, run: str, length: int, digest: bytes) -> Upload:
        """The upload of this payload: the one there is, where it was begun already.

        Raises: `too-many-requests`, `quota-exceeded`, `storage-full`.
        """
        mine = [upload for upload in self._uploads.values() if upload.client == client]
        for upload in mine:
            if upload.task == task and upload.length == length and upload.digest == digest:
                return upload
        for upload in [upload for upload in mine if upload.task == task]:
            await self.forget(upload.id)
        self._quotas.check_upload(self._uploads.values(), client, run, length)
        upload = Upload(fresh_id(), task, client, run, length, digest, 0, time.monotonic())
        self._folder.upload(upload.id).touch(mode=0o600)
        self._uploads[upload.id] = upload
        row = {"id": upload.id, "task": task, "client": client, "length": length, "digest": digest}
        try:
            await self._store.write(insert(tables.uploads).values(**row, created_at=time.time()))
        except ProblemError:
            del self._uploads[upload.id]
            self._folder.upload(upload.id).unlink(missing_ok=True)
            raise
        return upload

    def find(self, upload_id: str, client: str) -> Upload:
        """Raises: `upload-not-found`, also for another client's upload."""
        upload = self._uploads.get(upload_id)
        if upload is None or upload.client != client:
            raise ProblemError("upload-not-found")
        return upload

    @contextlib.contextmanager
    def reading(self, upload: Upload) -> Iterator[Reader]:
        """The upload's newest reader; older ones end. Raises: OSError."""
        upload.reader += 1
        ended = upload.ended = asyncio.Event()
        reader = Reader(
            os.open(self._folder.upload(upload.id), os.O_WRONLY | os.O_APPEND), upload.reader, upload.offset
        )
        upload.interrupted = True
        try:
            yield reader
            upload.interrupted = False
        finally:
            os.close(reader.descriptor)
            ended.set()

    def append(self, upload: Upload, reader: Reader, chunk: bytes) -> None:
        """Raises: `upload-offset` (a newer reader took over), `upload-too-large`, OSError."""
        self._check_reader(upload, reader)
        room = upload.length - upload.offset
        view = memoryview(chunk)[:room]
        while view:
            written = os.write(reader.descriptor, view)
            upload.offset += written
            view = view[written:]
        upload.touched_at = time.monotonic()
        if len(chunk) > room:
            raise ProblemError("upload-too-large", f"more than the {upload.length} bytes that were announced")

    def rewind(self, upload: Upload, reader: Reader) -> None:
        """Forgets what this reader appended: not the bytes that its client meant. Raises: `upload-offset`, OSError."""
        self._check_reader(upload, reader)
        os.ftruncate(reader.descriptor, reader.begins)
        upload.offset = reader.begins

    def _check_reader(self, upload: Upload, reader: Reader) -> None:
        if reader.number != upload.reader or upload.id not in self._uploads:
            raise ProblemError("upload-offset", "a newer request goes on with this upload")

    async def settle(self, upload: Upload) -> int:
        """The offset, which stays as it is until the next reader begins.

        Asked for on a new connection, this may be reached before all that the older one had delivered: that is read on
        to its end, for as long as it moves and at most `SETTLE_S`.
        """
        # What lies in the sockets by now is read in the next turn of the loop and reaches its handler in the one after.
        for _ in range(2):
            await asyncio.sleep(0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE_S):
                while upload.ended is not None and not upload.ended.is_set():
                    before = upload.offset
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(QUIET_S):
                            await upload.ended.wait()
                    if upload.offset == before:
                        break
        upload.reader += 1
        return upload.offset

    def checksum(self, upload: Upload, begins: int, ends: int, algorithm: str) -> bytes:
        """Of these bytes of what has arrived. Raises: OSError."""
        checksum = hashlib.new(algorithm, usedforsecurity=False)
        with self._folder.upload(upload.id).open("rb") as file:
            file.seek(begins)
            while block := file.read(min(_BLOCK, ends - begins)):
                checksum.update(block)
                begins += len(block)
        return checksum.digest()

    def finished(self, upload_id: str, task: str, client: str) -> Path:
        """The file of a complete upload. Raises: `upload-not-found`, `upload-incomplete`."""
        upload = self.find(upload_id, client)
        if upload.task != task:
            raise ProblemError("upload-not-found", "the upload belongs to another task")
        if upload.offset != upload.length:
            raise ProblemError("upload-incomplete", f"{upload.offset} of {upload.length} bytes have arrived")
        return self._folder.upload(upload_id)

    def check_digest(self, upload_id: str, digest: bytes) -> None:
        """Raises: `digest-mismatch`."""
        announced = self._uploads[upload_id].digest
        if digest != announced:
            raise ProblemError("digest-mismatch", f"{digest.hex()} arrived where {announced.hex()} was announced")

    async def forget(self, upload_id: str) -> None:
        """Deletes the upload and what is left of its file."""
        if self.end(upload_id):
            with contextlib.suppress(FileNotFoundError):
                self._folder.upload(upload_id).unlink()
            await self._store.write(self.without(upload_id))

    def end(self, upload_id: str) -> bool:
        """Nobody goes on with this upload from now on; whether there was one. Its row and file are the caller's."""
        upload = self._uploads.pop(upload_id, None)
        if upload is not None:
            upload.reader += 1
        return upload is not None

    def without(self, upload_id: str) -> Statement:
        """Deletes the upload's row."""
        return delete(tables.uploads).where(tables.uploads.c.id == upload_id)

    @property
    def promised_bytes(self) -> int:
        """What all open uploads will hold when they are complete."""
        return sum(upload.length for upload in self._uploads.values())

    async def release(self, tasks: set[str]) -> None:
        """Deletes the uploads of these tasks."""
        for upload in [upload for upload in self._uploads.values() if upload.task in tasks]:
            await self.forget(upload.id)

    async def release_client(self, client: str) -> None:
        """Deletes the uploads of this client."""
        for upload in [upload for upload in self._uploads.values() if upload.client == client]:
            await self.forget(upload.id)

    def stop(self, client: str) -> None:
        """Cuts off whoever is appending for this client; what has arrived stays."""
        for upload in self._uploads.values():
            upload.reader += upload.client == client

    async def expire(self, now: float) -> None:
        """Deletes what nobody goes on with. `now`: monotonic seconds."""
        for upload in list(self._uploads.values()):
            if now - upload.touched_at > self.expires_s:
                await self.forget(upload.id)
