"""Local copies of objects, so that each is fetched once and can be mapped; those used longest ago go first."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from thinwire.machine.files import move, write_atomic

from .local import own_folder

SPARED_S: Final = 600.0
"""A copy that was asked for so lately stays, however many there are: whoever asked is about to open it."""


class Cache:
    """`root`: a folder of this process alone. `most_bytes`: of copies; more only where all are in use. Every method
    raises `OSError`.
    """

    def __init__(self, root: Path, most_bytes: int) -> None:
        self._root = root
        self._most = most_bytes
        self._held = 0
        self._lock = threading.Lock()

    def open(self) -> None:
        """Begins with none."""
        shutil.rmtree(self._root, ignore_errors=True)
        own_folder(self._root)

    def path(self, name: str) -> Path:
        """Where the copy of this object lies, or would."""
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def find(self, name: str) -> Path | None:
        """The copy, if there is one."""
        path = self.path(name)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def keep(self, name: str, pieces: Iterable[memoryview]) -> Path:
        """A new copy."""
        path = self.path(name)
        write_atomic(path, pieces, fsync=False)
        self._grow(path.stat().st_size)
        return path

    def take(self, name: str, path: Path) -> None:
        """This file is the copy from now on."""
        target = self.path(name)
        size = path.stat().st_size
        move(path, target, fsync=False)
        self._grow(size)

    def drop(self, name: str) -> None:
        """None of this object; what is mapped stays good."""
        path = self.path(name)
        for copy in (path, *path.parent.glob(f"{path.name}-*")):
            with contextlib.suppress(FileNotFoundError):
                size = copy.stat().st_size
                copy.unlink()
                self._grow(-size)

    def _grow(self, size: int) -> None:
        with self._lock:
            self._held += size
            if self._held <= self._most:
                return
            found = [(path.stat().st_mtime, path) for path in self._root.rglob("*") if path.is_file()]
            for used_at, path in sorted(found):
                if self._held <= self._most or time.time() - used_at < SPARED_S:
                    return
                self._held -= path.stat().st_size
                path.unlink(missing_ok=True)
