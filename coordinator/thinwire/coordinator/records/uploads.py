"""Uploads: what of answers is on its way. Their bytes lie in files; how many have arrived is the file's size."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Select, and_, bindparam, delete, select

from thinwire.coordinator.runs.exchange import SlotState

from .database import Database, upsert_in
from .prepared import Prepared
from .tables import exchanges, tasks, uploads
from .tasks import find_task


@dataclass(frozen=True, slots=True)
class UploadRow:
    """`length`: bytes in all, with this `digest`. `kind`: of its exchange. `created_at`: Unix seconds."""

    id: str
    task: str
    client: str
    run: str
    exchange: int
    kind: str
    length: int
    digest: bytes
    task_state: SlotState
    created_at: float


_ALL: Final[Select[Any]] = (
    select(
        uploads.c.id, uploads.c.task, uploads.c.client, tasks.c.run, tasks.c.exchange, exchanges.c.kind,
        uploads.c.length, uploads.c.digest, tasks.c.state, uploads.c.created_at,
    )
    .join(tasks, tasks.c.id == uploads.c.task)
    .join(exchanges, and_(exchanges.c.run == tasks.c.run, exchanges.c.exchange == tasks.c.exchange))
    .order_by(uploads.c.created_at, uploads.c.id)
)  # fmt: skip
_ONE = Prepared(_ALL.where(uploads.c.id == bindparam("upload")))
_CREATE = Prepared(lambda dialect: upsert_in(dialect, uploads).on_conflict_do_nothing(index_elements=["id"]))
_DELETE_OF = Prepared(
    delete(uploads).where(
        uploads.c.task.in_(
            select(tasks.c.id).where(
                tasks.c.run == bindparam("of_run"), tasks.c.exchange >= bindparam("first"),
                tasks.c.exchange <= bindparam("last"),
            )
        )
    )
)  # fmt: skip
_DELETE = delete(uploads).where(uploads.c.id == bindparam("upload"))
_END = Prepared(_DELETE)


class Uploads:
    """The rows of uploads. Every verb raises `storage-failed`, and those that write `storage-full`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, upload: str, task: str, client: str, length: int, digest: bytes, now: float) -> UploadRow:
        """A new upload; the same again changes nothing. Raises: `task-not-found`, also for another client's task."""
        row = {"id": upload, "task": task, "client": client, "length": length, "digest": digest, "created_at": now}

        def work(connection: Connection) -> UploadRow:
            find_task(connection, task, client)
            _CREATE.change(connection, row)
            return UploadRow(*_ONE.all(connection, {"upload": upload})[0])

        return await self._database.transaction(work)

    async def all(self) -> list[UploadRow]:
        """The oldest first."""
        return await self._database.read(lambda connection: [UploadRow(*row) for row in connection.execute(_ALL)])

    async def delete(self, ids: Collection[str]) -> None:
        """None of these is there any more, whether or not it was."""
        if ids:
            rows = [{"upload": upload} for upload in ids]
            await self._database.transaction(lambda connection: connection.execute(_DELETE, rows) and None)


def end_upload(connection: Connection, upload: str) -> None:
    """It has become an answer."""
    _END.change(connection, {"upload": upload})


def delete_uploads(connection: Connection, run: str, first: int, last: int) -> None:
    """Those for the tasks of these exchanges, which are over."""
    _DELETE_OF.change(connection, {"of_run": run, "first": first, "last": last})
