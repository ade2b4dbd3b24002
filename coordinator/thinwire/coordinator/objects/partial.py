"""What has arrived of uploads: local files that grow, named by the uploads' ids. Their size is the offset."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from .local import own_folder

CHUNK: Final = 1 << 22
"""Bytes of an upload that go into a store at once, where several coordinators go on with uploads."""
_ID: Final = re.compile("[0-9A-Za-z_-]+")
_BLOCK: Final = 1 << 20


class Partials:
    """`root`: the data folder. `open` first. Every method raises `OSError`; `FileNotFoundError` where nothing of this
    upload has been kept.
    """

    def __init__(self, root: Path) -> None:
        self._folder = root / "uploads"

    def open(self) -> None:
        """Makes the folder."""
        own_folder(self._folder)

    def path(self, upload: str) -> Path:
        """The file, for whoever takes it when it is complete."""
        if not _ID.fullmatch(upload):
            raise ValueError(f"{upload!r} is no upload's id")
        return self._folder / upload

    def create(self, upload: str, elsewhere: int = 0) -> None:
        """An upload of which nothing has arrived; or so many bytes, which lie elsewhere: a hole of the file."""
        descriptor = os.open(self.path(upload), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.truncate(descriptor, elsewhere)
        finally:
            os.close(descriptor)

    def fill(self, upload: str, offset: int, file: Path) -> None:
        """What lay elsewhere, from an offset on, is what this file holds."""
        with file.open("rb") as source, self.path(upload).open("r+b") as target:
            target.seek(offset)
            shutil.copyfileobj(source, target, _BLOCK)

    def pieces(self, upload: str, begins: int, ends: int) -> Iterator[bytes]:
        """These bytes of what has arrived, block by block."""
        with self.path(upload).open("rb") as file:
            file.seek(begins)
            while block := file.read(min(_BLOCK, ends - begins)):
                yield block
                begins += len(block)

    def offset(self, upload: str) -> int:
        """How many bytes have arrived."""
        return self.path(upload).stat().st_size

    def appending(self, upload: str) -> Tail:
        """The end of the file, to append to; to be closed, by `with`."""
        return Tail(self.path(upload))

    def truncate(self, upload: str, offset: int) -> None:
        """Forgets what lies behind this offset."""
        os.truncate(self.path(upload), offset)

    def checksum(self, upload: str, begins: int, ends: int, algorithm: str) -> bytes:
        """Of these bytes of what has arrived, by a name that `hashlib` knows."""
        checksum = hashlib.new(algorithm, usedforsecurity=False)
        for block in self.pieces(upload, begins, ends):
            checksum.update(block)
        return checksum.digest()

    def delete(self, uploads: Iterable[str]) -> None:
        """Nothing of these is kept any more, whether or not it was."""
        for upload in uploads:
            self.path(upload).unlink(missing_ok=True)

    def ids(self) -> set[str]:
        """The uploads of which a file is there."""
        return {path.name for path in self._folder.iterdir() if _ID.fullmatch(path.name)}

    def usage(self) -> int:
        """Bytes that have arrived, of all uploads."""
        total = 0
        for path in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total


class Tail:
    """Appends to a file. `offset`: its size, also behind a write that failed half-way."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self.offset = os.fstat(self._descriptor).st_size

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Appends all of it. Raises: `OSError`; what the disk took until then stays."""
        left = memoryview(data)
        while left:
            written = os.write(self._descriptor, left)
            self.offset += written
            left = left[written:]

    def truncate(self, offset: int) -> None:
        """Forgets what lies behind this offset. Raises: `OSError`."""
        os.ftruncate(self._descriptor, offset)
        self.offset = offset

    def close(self) -> None:
        """The second time does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Tail:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
