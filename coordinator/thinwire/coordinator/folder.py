"""The data folder: payloads by digest, answers, uploads, checkpoints, models.

    payloads/HEX        broadcast parts, plans and final models; write-once
    answers/TASK        the payloads of accepted answers, until their exchange is closed
    uploads/ID          what has arrived of an upload; its size is the offset
    checkpoints/RUN/N   the state before exchange N, fsynced
    models/HEX          submitted models (safetensors)

A file appears complete or not at all: it is written beside its place and renamed.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import secrets
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Final, cast

from thinwire.methods.checkpoint import state_pieces, unpack_state
from thinwire.methods.values import State

FOLDERS: Final = ("payloads", "answers", "uploads", "checkpoints", "models")
_BLOCK: Final = 1 << 20


class Folder:
    """Names come from digests and ids that have been checked; nothing a peer says becomes a path.

    `found_whole`: final models that this process has looked at.
    """

    def __init__(self, root: Path, *, fsync_answers: bool = False) -> None:
        self.root = root
        self._fsync_answers = fsync_answers
        self.found_whole: set[bytes] = set()

    def create(self) -> None:
        """Makes the folders and removes what was being written when the last process died."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in FOLDERS:
            (self.root / name).mkdir(exist_ok=True)
            for torn in (self.root / name).rglob("*.tmp"):
                torn.unlink()

    def payload(self, digest: bytes) -> Path:
        return self.root / "payloads" / digest.hex()

    def model(self, digest: bytes) -> Path:
        return self.root / "models" / digest.hex()

    def upload(self, upload: str) -> Path:
        return self.root / "uploads" / upload

    def answer(self, task: str) -> Path:
        return self.root / "answers" / task

    def checkpoint(self, run: str, exchange: int) -> Path:
        return self.root / "checkpoints" / run / str(exchange)

    def temporary(self, kind: str) -> Path:
        """A name to write to before renaming."""
        return self.root / kind / f"{secrets.token_hex(8)}.tmp"

    def put_payload(self, data: bytes) -> bytes:
        """The digest under which the data now lies. fsynced: clients may build on it after a crash."""
        digest = hashlib.sha256(data).digest()
        path = self.payload(digest)
        if not path.exists():
            _write(path, [data], fsync=True)
        return digest

    def is_whole(self, digest: bytes) -> bool:
        """Whether the payload is there and has its digest."""
        try:
            return file_digest(self.payload(digest)) == digest
        except FileNotFoundError:
            return False

    def drop_damaged(self, digest: bytes) -> None:
        """Deletes the payload unless it is whole."""
        if not self.is_whole(digest):
            self.payload(digest).unlink(missing_ok=True)

    def put_answer(self, task: str, data: bytes) -> None:
        _write(self.answer(task), [data], fsync=self._fsync_answers)

    def take_upload(self, upload: str, task: str) -> None:
        """The finished upload becomes the task's answer."""
        path = self.upload(upload)
        if self._fsync_answers:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        path.replace(self.answer(task))

    def give_back(self, upload: str, task: str) -> None:
        """The inverse, where the answer could not be noted: it is an upload again. Where there is none: nothing."""
        with contextlib.suppress(FileNotFoundError):
            self.answer(task).rename(self.upload(upload))

    def put_state(self, run: str, exchange: int, state: State) -> State:
        """Writes the checkpoint before an exchange. The same state; a large one is mapped from that file, so that its
        arrays cost no memory which the system could not take back.
        """
        path = self.checkpoint(run, exchange)
        path.parent.mkdir(exist_ok=True)
        _write(path, state_pieces(state), fsync=True)
        sync_folder(path.parent.parent)
        mapped = read_mapped(path)
        return state if isinstance(mapped, bytes) else unpack_state(cast(bytes, mapped), verify=False)

    def drop_checkpoints(self, run: str, keep: Collection[int]) -> None:
        """Deletes all checkpoints of a run but these."""
        for path in (self.root / "checkpoints" / run).glob("*"):
            if not path.name.isdecimal() or int(path.name) not in keep:
                path.unlink(missing_ok=True)

    def drop_payloads(self, keep: Collection[bytes]) -> None:
        """Deletes all payloads but these."""
        names = {digest.hex() for digest in keep}
        for path in (self.root / "payloads").iterdir():
            if path.name not in names and path.suffix != ".tmp":
                path.unlink(missing_ok=True)

    def drop_answers(self, tasks: Collection[str]) -> None:
        for task in tasks:
            self.answer(task).unlink(missing_ok=True)

    def size_bytes(self) -> dict[str, int]:
        """What each folder holds."""
        sizes = dict.fromkeys(FOLDERS, 0)
        for name in FOLDERS:
            for path in (self.root / name).rglob("*"):
                with contextlib.suppress(FileNotFoundError):
                    if path.is_file():
                        sizes[name] += path.stat().st_size
        return sizes


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file, read block by block."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def read_mapped(path: Path) -> bytes | mmap.mmap:
    """The file's bytes; a large file is mapped, so that it costs no memory of its own."""
    size = path.stat().st_size
    if size <= _BLOCK:
        return path.read_bytes()
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def _write(path: Path, pieces: Iterable[bytes | memoryview], *, fsync: bool) -> None:
    beside = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with beside.open("wb") as file:
            file.writelines(pieces)
            if fsync:
                file.flush()
                os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    if fsync:
        sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Makes the names in a folder survive the death of the machine."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
