"""A data folder copied while its coordinator goes on, and put back.

The database comes last: a folder with objects and without one is neither served nor restored.
"""

from __future__ import annotations

import asyncio
import os
import tarfile
import tempfile
from functools import partial
from pathlib import Path
from typing import Final

from thinwire.machine.files import move, read_mapped, write_atomic
from thinwire.protocol.places import OPERATOR_TOKEN

from .backing import DATABASE
from .objects.local import LocalObjects
from .objects.objects import KINDS, checkpoint, payload
from .records.database import Database
from .records.payloads import Payloads
from .records.runs import Runs
from .records.sqlite import copy_database
from .runs.identity import fresh_id

ARCHIVE: Final = ".tar"
INSIDE: Final = "thinwire-backup"
"""The folder in an archive."""
TRIES: Final = 10
"""A run that closes an exchange while it is copied deletes what the copy needs; then it is copied again."""
_LINEAGE: Final = 8


class BackupError(Exception):
    """The text says why nothing was copied, or not all."""


def back_up(data_dir: Path, target: Path) -> int:
    """Copies a data folder, whether or not a coordinator serves it, into a new folder, or into a file where the name
    ends in .tar; how many objects. Raises: `BackupError`, OSError, `ProblemError`.
    """
    if target.suffix != ARCHIVE:
        return _copy_out(data_dir, target)
    if target.exists():
        raise BackupError(f"{target} exists: name a new file")
    with tempfile.TemporaryDirectory(prefix=f".{target.stem}-", dir=target.parent) as made:
        folder = Path(made)
        copied = _copy_out(data_dir, folder / INSIDE)
        pack(folder / INSIDE, folder / target.name)
        move(folder / target.name, target, fsync=True)
    return copied


def restore(source: Path, data_dir: Path) -> int:
    """Makes a data folder of a backup, a folder or a file; how many objects. Every run that was not over begins its
    open exchange again; what clients were told after the backup counts no more. Raises: `BackupError`, OSError,
    `ProblemError`.
    """
    if source.is_dir() or not source.exists():
        return _copy_in(source, data_dir)
    _check_empty(data_dir)
    data_dir.absolute().parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{data_dir.name}-", dir=data_dir.absolute().parent) as made:
        unpack(source, Path(made))
        return _copy_in(Path(made) / INSIDE, data_dir)


def _copy_out(data_dir: Path, folder: Path) -> int:
    if not (data_dir / DATABASE).is_file():
        raise BackupError(f"{data_dir} is no coordinator's folder: it has no {DATABASE}")
    _check_empty(folder)
    target, part = LocalObjects(folder), folder / f"{DATABASE}.part"
    target.open()
    for _ in range(TRIES):
        _copy_objects(data_dir, target)
        part.unlink(missing_ok=True)
        copy_database(data_dir / DATABASE, part)
        copied = _copy_objects(data_dir, target)
        if all((folder / name).is_file() for name in asyncio.run(_needed(part))):
            break
    else:
        raise BackupError(f"{data_dir} changes faster than it can be copied: pause its runs, or stop the coordinator")
    write_atomic(folder / OPERATOR_TOKEN, (data_dir / OPERATOR_TOKEN).read_bytes(), fsync=True)
    move(part, folder / DATABASE, fsync=True)
    return copied


def _copy_in(folder: Path, data_dir: Path) -> int:
    if not (folder / DATABASE).is_file():
        raise BackupError(f"{folder} is no backup: it has no {DATABASE}")
    _check_empty(data_dir)
    target, part = LocalObjects(data_dir), data_dir / f"{DATABASE}.part"
    target.open()
    copied = _copy_objects(folder, target)
    copy_database(folder / DATABASE, part)
    asyncio.run(_begin_anew(part))
    write_atomic(data_dir / OPERATOR_TOKEN, (folder / OPERATOR_TOKEN).read_bytes(), fsync=True)
    move(part, data_dir / DATABASE, fsync=True)
    return copied


def pack(folder: Path, file: Path) -> None:
    """The folder as an archive that only its owner reads; its bytes are on the disk. Raises: OSError."""
    with os.fdopen(os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        with tarfile.open(fileobj=out, mode="w") as archive:
            archive.add(folder, INSIDE)
        out.flush()
        os.fsync(out.fileno())


def unpack(file: Path, folder: Path) -> None:
    """Raises: `BackupError` (no archive of ours, or a damaged one), OSError."""
    try:
        with tarfile.open(file) as archive:
            archive.extractall(folder, filter="data")
    except (tarfile.TarError, EOFError) as error:
        raise BackupError(f"{file} is no backup, or a damaged one: {error}") from None


def _check_empty(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()):
        raise BackupError(f"{folder} is not empty: name a new folder")


def _copy_objects(source: Path, target: LocalObjects) -> int:
    """What `target` has already stays; how many it has then."""
    for kind in KINDS:
        for path in sorted((source / kind).rglob("*")):
            name = str(path.relative_to(source))
            try:
                if path.is_file() and "." not in path.name:
                    target.put(name, [memoryview(read_mapped(path))], durable=True)
            except FileNotFoundError:
                continue  # deleted meanwhile: nothing needs it any more
    return sum(len(target.names(kind)) for kind in KINDS)


async def _needed(database: Path) -> list[str]:
    """The checkpoints at which the runs stand that are not over, and what their best models are made of."""
    opened, names = Database(database), list[str]()
    await opened.open()
    try:
        for row in await Runs(opened).unfinished():
            names.append(checkpoint(row.id, row.exchange, row.state_epoch))
            names += [checkpoint(row.id, one.exchange, one.epoch) for one in row.best]
            for one in row.best:
                sent = await Payloads(opened).of(row.id, one.exchange)
                names += [payload(row.id, each.digest) for each in sent]
        return names
    finally:
        await opened.close()


async def _begin_anew(database: Path) -> None:
    opened = Database(database)
    await opened.open()
    try:
        await Runs(opened).begin_anew(partial(fresh_id, _LINEAGE))
    finally:
        await opened.close()
