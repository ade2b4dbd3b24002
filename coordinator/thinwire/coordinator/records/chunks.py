"""Uploads that any of several coordinators goes on with: who holds each, and what of it lies in the store they share.

One holds an upload at a time; whoever takes it over raises its epoch, and what an older epoch still writes is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, delete, exists, func, insert, select, update

from thinwire.protocol.reasons import ProblemError

from .database import Database
from .kind import database_time
from .tables import chunks, replicas, uploads
from .uploads import UploadRow, find_upload


@dataclass(frozen=True, slots=True)
class Chunk:
    """So many bytes of an upload, from `offset` on."""

    offset: int
    size: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Taken:
    """An upload that goes on here, under this epoch. `offset`: bytes that lie in chunks."""

    row: UploadRow
    epoch: int
    offset: int


class UploadLostError(Exception):
    """Another coordinator goes on with the upload, or it is over; what was to be written has not been."""


class Chunks:
    """The rows of chunks. `holder`: this coordinator's name. Every verb raises `storage-failed`, and those that write
    `storage-full`.
    """

    def __init__(self, database: Database, holder: str) -> None:
        self._database = database
        self.holder = holder

    async def take(self, upload: str, client: str, *, force: bool = False) -> Taken | None:
        """The upload goes on here; None while another that lives holds it. `force`: whoever holds it. Raises:
        `upload-not-found`, also for another client's.
        """

        def work(connection: Connection) -> Taken | None:
            now = database_time(connection)
            mine = (uploads.c.id == upload, uploads.c.client == client)
            found = connection.execute(select(uploads.c.holder, uploads.c.epoch).where(*mine)).one_or_none()
            if found is None:
                raise ProblemError("upload-not-found")
            lives = select(exists().where(replicas.c.name == found.holder, replicas.c.until > now))
            if found.holder not in (None, self.holder) and not force and connection.scalar(lives):
                return None
            taken = {"holder": self.holder, "epoch": found.epoch + 1, "touched_at": now}
            connection.execute(update(uploads).where(uploads.c.id == upload).values(taken))
            stands = select(func.coalesce(func.sum(chunks.c.size), 0)).where(chunks.c.upload == upload)
            offset = int(connection.execute(stands).scalar_one())
            return Taken(find_upload(connection, upload), found.epoch + 1, offset)

        return await self._database.transaction(work)

    async def add(self, upload: str, epoch: int, offset: int, size: int) -> None:
        """A chunk that lies in the store. Raises: `UploadLostError`."""

        def work(connection: Connection) -> None:
            held = update(uploads).where(uploads.c.id == upload, uploads.c.epoch == epoch)
            if not connection.execute(held.values(touched_at=database_time(connection))).rowcount:
                raise UploadLostError(f"the upload {upload} goes on elsewhere: epoch {epoch} is over")
            row = {"upload": upload, "offset": offset, "size": size, "epoch": epoch}
            connection.execute(insert(chunks).values(row))

        await self._database.transaction(work)

    async def leave(self, upload: str, epoch: int) -> None:
        """Others may go on with it at once."""
        held = update(uploads).where(uploads.c.id == upload, uploads.c.epoch == epoch).values(holder=None)
        await self._database.transaction(lambda connection: connection.execute(held) and None)

    async def of(self, upload: str) -> list[Chunk]:
        """In the order of their offsets."""
        query = select(chunks.c.offset, chunks.c.size, chunks.c.epoch).where(chunks.c.upload == upload)
        ordered = query.order_by(chunks.c.offset)
        return await self._database.read(lambda connection: [Chunk(*row) for row in connection.execute(ordered)])

    async def begun(self, *, task: str | None = None, client: str | None = None) -> list[str]:
        """The uploads for this task, or of this client, whoever holds them."""
        which = uploads.c.client == client if task is None else uploads.c.task == task
        query = select(uploads.c.id).where(which).order_by(uploads.c.created_at, uploads.c.id)
        return await self._database.read(lambda connection: list(connection.scalars(query)))

    async def replace(self, rows: Mapping[str, Collection[Chunk]]) -> None:
        """By upload: these are all chunks from now on."""
        new = [
            {"upload": upload, "offset": one.offset, "size": one.size, "epoch": one.epoch}
            for upload, some in rows.items()
            for one in some
        ]

        def work(connection: Connection) -> None:
            connection.execute(delete(chunks))
            if new:
                connection.execute(insert(chunks), new)

        await self._database.transaction(work)

    async def forget(self, ids: Collection[str]) -> None:
        """Of none of these uploads there is a chunk any more, whether or not there was."""
        gone = delete(chunks).where(chunks.c.upload.in_(ids))
        await self._database.transaction(lambda connection: connection.execute(gone) and None)

    async def sweep(self, expires_s: float) -> set[str]:
        """Forgets the uploads that nobody has gone on with for so long and nobody holds who lives, and the chunks of
        those that are over; all that are left.
        """

        def work(connection: Connection) -> set[str]:
            now = database_time(connection)
            lives = exists().where(replicas.c.name == uploads.c.holder, replicas.c.until > now)
            since = func.coalesce(uploads.c.touched_at, uploads.c.created_at)
            connection.execute(delete(uploads).where(since < now - expires_s, ~lives))
            left = set(connection.scalars(select(uploads.c.id)))
            connection.execute(delete(chunks).where(chunks.c.upload.not_in(select(uploads.c.id))))
            return left

        return await self._database.transaction(work)
