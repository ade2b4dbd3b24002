"""Objects as files of the data folder, closed to everybody but its owner."""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import structlog

from thinwire.machine.files import drop_unfinished, move, sync_folder, write_atomic

from .objects import KINDS

_NAME: Final = re.compile(rf"({'|'.join(KINDS)})(/[0-9A-Za-z_-]+)+")
_PREFIX: Final = re.compile(rf"({'|'.join(KINDS)})(/[0-9A-Za-z_-]+)*")
_log = structlog.get_logger("thinwire.coordinator")


def own_folder(path: Path) -> None:
    """Makes the folder, or closes it where it is there: nobody but its owner lists or enters it.

    One that others share by intent, or that belongs to another account, is left as it is, with a line in the log.
    Raises: `OSError`.
    """
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = path.stat()
    if stat.S_IMODE(found.st_mode) & 0o077 == 0:
        return
    if found.st_uid != os.geteuid() or found.st_mode & stat.S_ISVTX:
        _log.warning("folder is open to others", folder=str(path), mode=f"{stat.S_IMODE(found.st_mode):o}")
        return
    path.chmod(0o700)


def is_name(text: str) -> bool:
    """Whether it is how objects are called."""
    return _NAME.fullmatch(text) is not None


def check_name(name: str) -> str:
    """Raises: `ValueError`: whatever a peer may say, nothing outside of the kinds' folders is a path."""
    if not is_name(name):
        raise ValueError(f"{name!r} is no object's name")
    return name


def check_prefix(prefix: str) -> str:
    """Raises: `ValueError`."""
    if not _PREFIX.fullmatch(prefix):
        raise ValueError(f"{prefix!r} is not how the name of an object begins")
    return prefix


def _below(root: str, folder: str) -> Iterator[str]:
    """The files below a folder of the root, by their paths from the root on."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(f"{root}/{folder}") as found:
        for entry in found:
            path = f"{folder}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                yield from _below(root, path)
            elif entry.is_file():
                yield path


def one_at_a_time() -> Callable[[str], AbstractContextManager[None]]:
    """One writer of a name at a time: the second finds what the first has written."""
    changed, writing = threading.Condition(), set[str]()

    @contextlib.contextmanager
    def alone(name: str) -> Iterator[None]:
        with changed:
            changed.wait_for(lambda: name not in writing)
            writing.add(name)
        try:
            yield
        finally:
            with changed:
                writing.remove(name)
                changed.notify_all()

    return alone


class LocalObjects:
    """See `Objects`. `root`: the data folder, which one process has at a time. `open` first."""

    is_shared = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self._alone = one_at_a_time()

    def open(self) -> None:
        """Makes the folders and removes what was being written when the last process died."""
        own_folder(self.root)
        for kind in KINDS:
            own_folder(self.root / kind)
            drop_unfinished(self.root / kind)
            sync_folder(self.root / kind)
        sync_folder(self.root)

    def put(self, name: str, pieces: bytes | Iterable[bytes | memoryview], *, durable: bool) -> None:
        with self._alone(name):
            path = self._path(name)
            if not self._is_there(path, durable):
                write_atomic(path, pieces, fsync=durable)

    def take(self, path: Path, name: str, *, durable: bool) -> None:
        with self._alone(name):
            target = self._path(name)
            if self._is_there(target, durable):
                path.unlink()
                return
            target.parent.mkdir(exist_ok=True, mode=0o700)
            move(path, target, fsync=durable)

    def local(self, name: str) -> Path:
        path = self._path(name)
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there")
        return path

    def delete(self, names: Iterable[str]) -> None:
        for name in names:
            self._path(name).unlink(missing_ok=True)

    def names(self, prefix: str) -> list[str]:
        return sorted(name for name in _below(str(self.root), check_prefix(prefix)) if is_name(name))

    def usage(self) -> dict[str, int]:
        sizes = dict.fromkeys(KINDS, 0)
        for kind in KINDS:
            for path in (self.root / kind).rglob("*"):
                with contextlib.suppress(FileNotFoundError):
                    found = path.stat()
                    sizes[kind] += found.st_size if stat.S_ISREG(found.st_mode) else 0
        return sizes

    def _path(self, name: str) -> Path:
        return self.root / check_name(name)

    @staticmethod
    def _is_there(path: Path, durable: bool) -> bool:
        there = path.exists()
        if there and durable:
            # The process that wrote it may have died before its name was on the disk.
            sync_folder(path.parent)
        return there
