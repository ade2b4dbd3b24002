"""A federation moves from its folder to a database and a store that several coordinators can share.

Objects first, then all rows in one transaction: what was interrupted has changed nothing, and is begun again.
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from thinwire.machine.files import move, read_mapped

from .backing import DATABASE, LOCK_FILE, objects_at
from .objects.local import LocalObjects
from .objects.objects import KINDS, Objects, chunk
from .objects.partial import CHUNK, Partials
from .records.chunks import Chunk, Chunks
from .records.copying import copy_rows
from .records.database import Database

MOVED: Final = f"{DATABASE}.moved"
"""What the database of a folder is called from then on: nobody goes on with it by mistake."""
CACHE_BYTES: Final = 0


class RelocationError(Exception):
    """The text says why nothing was moved."""


def relocate(data_dir: Path, database: str, objects: str) -> tuple[int, int]:
    """Copies the rows of a folder that nobody serves to the database of this URL, and its objects to the store of that
    URL; empty: they stay where they are. How many rows and objects were copied.

    Raises: `RelocationError`, `ProblemError`, OSError.
    """
    if not (data_dir / DATABASE).is_file():
        raise RelocationError(f"{data_dir} is no coordinator's folder: it has no {DATABASE}")
    with (data_dir / LOCK_FILE).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RelocationError(f"a coordinator serves {data_dir}: stop it first; its clients wait") from None
        put, chunks = 0, dict[str, list[Chunk]]()
        if objects:
            target = objects_at(objects, data_dir, CACHE_BYTES)
            put = _copy_objects(data_dir, target)
            if database:
                chunks = _copy_uploads(data_dir, target)
        rows = 0
        if database:
            rows = asyncio.run(_copy_rows(data_dir / DATABASE, database, chunks))
            move(data_dir / DATABASE, data_dir / MOVED, fsync=True)
        return rows, put


def _copy_objects(data_dir: Path, target: Objects) -> int:
    target.open()
    source, copied = LocalObjects(data_dir), 0
    for kind in KINDS:
        for name in source.names(kind):
            target.put(name, [memoryview(read_mapped(source.local(name)))], durable=True)
            copied += 1
    return copied


def _copy_uploads(data_dir: Path, target: Objects) -> dict[str, list[Chunk]]:
    """What has arrived of uploads, as chunks that any coordinator goes on from."""
    partials, found = Partials(data_dir), dict[str, list[Chunk]]()
    partials.open()
    for upload in sorted(partials.ids()):
        size = partials.offset(upload)
        found[upload] = [Chunk(at, min(CHUNK, size - at), 0) for at in range(0, size, CHUNK)]
        for one in found[upload]:
            pieces = partials.pieces(upload, one.offset, one.offset + one.size)
            target.put(chunk(upload, one.epoch, one.offset, one.size), pieces, durable=True)
    return found


async def _copy_rows(path: Path, url: str, chunks: Mapping[str, list[Chunk]]) -> int:
    source, target = Database(path), Database(url)
    await source.open()
    try:
        await Chunks(source, "").replace(chunks)
        await target.open()
        try:
            return await copy_rows(source, target)
        finally:
            await target.close()
    finally:
        await source.close()
