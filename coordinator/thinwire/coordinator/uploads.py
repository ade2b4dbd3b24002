"""Large answers as they arrive: resumable uploads, appended chunk by chunk.

Law: no byte that was received is asked for again. An upload's offset is the size of its file, so it survives
every crash of the process. Only the newest reader may append: an older, half-dead connection is cut off when
its client asks for the offset or sends again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import string
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, insert, select

from thinwire.protocol.reasons import ProblemError

from . import tables
from .folder import Folder
from .quotas import Quotas
from .store import Store

_ALPHABET = string.ascii_lowercase + string.digits


def fresh_id(length: int = 8) -> str:
    """A random id."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


@dataclass(slots=True)
class Upload:
    """`reader`: counts who may append; `touched_at`: monotonic seconds of the last byte."""

    id: str
    task: str
    client: str
    run: str
    length: int
    digest: bytes
    offset: int
    touched_at: float
    reader: int = 0


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
                    row.id, row.task, row.client, row.run, row.length, row.digest, offset, time.monotonic()
                )
            else:
                await self._store.write(delete(tables.uploads).where(tables.uploads.c.id == row.id))
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

    def open(self, upload: Upload) -> tuple[int, int]:
        """A descriptor to append to, and the number of its reader; older readers end. Close the descriptor."""
        upload.reader += 1
        return os.open(self._folder.upload(upload.id), os.O_WRONLY | os.O_APPEND), upload.reader

    def append(self, upload: Upload, descriptor: int, reader: int, chunk: bytes) -> None:
        """Raises: `upload-offset` (a newer reader took over), `upload-too-large`, OSError."""
        if reader != upload.reader or upload.id not in self._uploads:
            raise ProblemError("upload-offset", "a newer request goes on with this upload")
        room = upload.length - upload.offset
        view = memoryview(chunk)[:room]
        while view:
            written = os.write(descriptor, view)
            upload.offset += written
            view = view[written:]
        upload.touched_at = time.monotonic()
        if len(chunk) > room:
            raise ProblemError("upload-too-large", f"more than the {upload.length} bytes that were announced")

    def cut(self, upload: Upload) -> int:
        """The offset, which stays as it is until the next reader begins."""
        upload.reader += 1
        return upload.offset

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
        upload = self._uploads.pop(upload_id, None)
        if upload is not None:
            upload.reader += 1
            with contextlib.suppress(FileNotFoundError):
                self._folder.upload(upload_id).unlink()
            await self._store.write(delete(tables.uploads).where(tables.uploads.c.id == upload_id))

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
