"""Uploads of devices: stored here at the speed of their own network, forwarded over the link at its speed.

The coordinator creates an upload, as ever, so its id is the same at both ends; what the link breaks goes on where the
coordinator's count stands, and no device notices.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from thinwire.machine.files import write_atomic
from thinwire.protocol.encoding import JSON, decode_message
from thinwire.protocol.messages import Problem
from thinwire.protocol.reasons import ProblemError

from .link import UNHEARD, Link, plain_headers, read_all

TUS: Final = "1.0.0"
_PIECE: Final = 1 << 16
_LONGEST_PAUSE_S: Final = 15.0
_EXPIRES_S: Final = 86_400.0
_log = structlog.get_logger("thinwire.relay")


@dataclass(slots=True)
class Held:
    """One upload. `device`: the hash of what it shows; `forwarded`: whether the coordinator has all of it."""

    id: str
    length: int
    device: str
    path: Path
    offset: int
    forwarded: bool = False
    task: asyncio.Task[None] | None = None

    def append(self, piece: bytes) -> None:
        """Raises: `upload-too-large`, OSError."""
        if self.offset + len(piece) > self.length:
            raise ProblemError("upload-too-large", f"more than the {self.length} bytes that were announced")
        with self.path.open("ab") as file:
            file.write(piece)
        self.offset += len(piece)


class Uploads:
    """Those in `folder`, also of a process that died: a file of what has come, and one that says whose it is."""

    def __init__(self, link: Link, folder: Path, most_bytes: int) -> None:
        self._link = link
        self._folder = folder
        self._most_bytes = most_bytes
        self._held: dict[str, Held] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for about in folder.glob("*.json"):
            known, path = json.loads(about.read_bytes()), about.with_suffix("")
            offset = path.stat().st_size if path.exists() else 0
            self._held[path.name] = Held(path.name, known["length"], known["device"], path, offset)

    def note(self, upload: str, length: int, device: bytes) -> None:
        """The coordinator has created it, or had before. Raises: `quota-exceeded`, OSError."""
        if upload in self._held:
            return
        self._sweep()
        if sum(one.length for one in self._held.values()) + length > self._most_bytes:
            raise ProblemError("quota-exceeded", "the relay has no room for it")
        path = self._folder / upload
        about = json.dumps({"length": length, "device": device.hex()}).encode()
        write_atomic(path.with_suffix(".json"), about, fsync=False)
        path.touch(mode=0o600)
        self._held[upload] = Held(upload, length, device.hex(), path, 0)

    def find(self, upload: str | None, device: bytes) -> Held | None:
        """That of this device, if it is one of this relay's."""
        found = self._held.get(upload or "")
        return found if found is not None and found.device == device.hex() else None

    def begin(self, held: Held, authorization: str) -> None:
        """Sends it on, if it is whole and nobody does."""
        if held.offset == held.length and not held.forwarded and held.task is None:
            held.task = asyncio.create_task(self._forward(held, authorization))

    async def wait(self, held: Held, authorization: str, wait_s: float) -> bool:
        """Whether the coordinator has all of it, now or within so long. Raises: `ProblemError`, the coordinator's."""
        self.begin(held, authorization)
        if held.task is not None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(asyncio.shield(held.task), wait_s)
        return held.forwarded

    async def _forward(self, held: Held, authorization: str) -> None:
        """Until the coordinator has all of it. Raises: `ProblemError`, where it will not."""
        tries, stood = 0, -1
        try:
            while True:
                try:
                    offset = await self._offset(held, authorization)
                    tries, stood = (0, offset) if offset > stood else (tries + 1, stood)
                    if offset == held.length:
                        held.forwarded = True
                        return
                    await self._send(held, authorization, offset)
                except (*UNHEARD, ProblemError) as error:
                    if isinstance(error, ProblemError) and not error.retry:
                        _log.warning("upload refused", upload=held.id, reason=error.reason)
                        self.forget(held)
                        raise
                    tries += 1
                    await asyncio.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, 0.2 * 2 ** min(tries, 10))))  # noqa: S311
        finally:
            held.task = None

    async def _offset(self, held: Held, authorization: str) -> int:
        headers = {"Authorization": authorization, "Tus-Resumable": TUS}
        async with self._link.open("HEAD", f"/v1/uploads/{held.id}", headers) as response:
            found, status, _ = plain_headers(response), response.status, await read_all(response)
        if status != 200:
            raise ProblemError("unavailable" if status >= 500 or status == 429 else "upload-not-found")
        return int(found["upload-offset"])

    async def _send(self, held: Held, authorization: str, offset: int) -> None:
        headers = {
            "Authorization": authorization,
            "Tus-Resumable": TUS,
            "Upload-Offset": str(offset),
            "Content-Type": "application/offset+octet-stream",
            "Content-Length": str(held.length - offset),
        }
        body = _pieces(held.path, offset)
        async with self._link.open("PATCH", f"/v1/uploads/{held.id}", headers, body) as response:
            content = await read_all(response)
        if response.status >= 400:
            problem = decode_message(Problem, content, plain_headers(response).get("content-type", JSON))
            raise ProblemError(problem.reason, problem.detail)

    def forget(self, held: Held) -> None:
        """It has been answered with, or is of no use."""
        self._held.pop(held.id, None)
        held.path.with_suffix(".json").unlink(missing_ok=True)
        held.path.unlink(missing_ok=True)

    def _sweep(self) -> None:
        now = time.time()
        for held in list(self._held.values()):
            if held.task is None and held.path.exists() and now - held.path.stat().st_mtime > _EXPIRES_S:
                self.forget(held)

    async def stop(self) -> None:
        """What is on its way stays where it is, to go on."""
        tasks = [one.task for one in self._held.values() if one.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pieces(path: Path, offset: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while piece := file.read(_PIECE):
            yield piece
