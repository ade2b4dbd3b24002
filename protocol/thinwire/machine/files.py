"""Files that are whole or not there: written beside their place, renamed, and, where asked, on the disk for good."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_UNFINISHED: Final = ".tmp"
_MAPPED_FROM_BYTES: Final = 1 << 20


def write_atomic(path: Path, pieces: bytes | Iterable[bytes | memoryview], *, fsync: bool, mode: int = 0o600) -> None:
    """Puts a file in its place in one step: whoever reads finds the old one or the new one. Missing folders are made,
    for their owner alone.

    `fsync`: when this returns, file and name survive a power cut. `mode`: permissions, less what the umask takes.
    Raises: `OSError`, or what `pieces` raises; then nothing is left behind.
    """
    beside = unfinished(path)
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    except FileNotFoundError:
        _make_folder(path.parent, fsync=fsync)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(descriptor, "wb") as file:
            file.writelines([pieces] if isinstance(pieces, bytes) else pieces)
            if fsync:
                file.flush()
                os.fsync(descriptor)
        beside.replace(path)
    except BaseException:
        # On a full disk the rest of it would be in the way of whatever comes next.
        beside.unlink(missing_ok=True)
        raise
    if fsync:
        sync_folder(path.parent)


def move(source: Path, target: Path, *, fsync: bool) -> None:
    """Puts a finished file in another place of the same disk in one step; `fsync`: content and new name survive a power
    cut. Raises: `OSError`.
    """
    if fsync:
        _sync(source)
    source.replace(target)
    if fsync:
        sync_folder(target.parent)


def unfinished(path: Path) -> Path:
    """A fresh name beside this one, for a file that is still being written; `drop_unfinished` knows it."""
    return path.with_name(f"{path.name}.{secrets.token_hex(4)}{_UNFINISHED}")


def drop_unfinished(folder: Path) -> None:
    """Deletes, in the folder and below it, what was being written when a process died. Nobody may be writing there."""
    for path in folder.rglob(f"*{_UNFINISHED}"):
        path.unlink()


def sync_folder(path: Path) -> None:
    """Makes the names in a folder survive a power cut. Raises: `OSError`."""
    _sync(path)


def read_mapped(path: Path) -> bytes | mmap.mmap:
    """The file's bytes; above 1 MiB it is mapped, so that it costs no memory of its own. Raises: `OSError`."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size <= _MAPPED_FROM_BYTES:
            return file.read()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file, read block by block. Raises: `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def bytes_below(folder: Path, *, but: Path | None = None) -> int:
    """The bytes of all files in a folder and below it, but for those of one folder. Files may come and go meanwhile."""
    held = 0
    for here, _, names in os.walk(folder):
        if Path(here) != but:
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    held += (Path(here) / name).stat().st_size
    return held


def _make_folder(path: Path, *, fsync: bool) -> None:
    """Makes a folder and those above it that are missing, each with its name on the disk."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True, mode=0o700)
        if fsync:
            sync_folder(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
