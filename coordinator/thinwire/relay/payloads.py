"""Plans and payloads, each kept once under its digest: the link carries it once, whoever many devices ask."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import structlog

from thinwire.protocol.reasons import ProblemError

from .download import Download, Refused
from .link import Link

_PIECE: Final = 1 << 16
_log = structlog.get_logger("thinwire.relay")


class Payloads:
    """Kept in `folder`, as far as `most_bytes` go. `received`, `given`: bytes over the link, and to devices."""

    def __init__(self, link: Link, folder: Path, most_bytes: int) -> None:
        self._link = link
        self._folder = folder
        self._most_bytes = most_bytes
        self._coming: dict[bytes, tuple[Download, asyncio.Task[None]]] = {}
        self._received = 0
        self.fetched = 0
        self.given = 0
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def received(self) -> int:
        return self._received + sum(one.received for one, _ in self._coming.values())

    def path(self, digest: bytes) -> Path:
        """Where it lies, or would lie."""
        return self._folder / digest.hex()

    async def size(self, digest: bytes, address: str, authorization: str) -> int:
        """Of the payload, which is there or on its way now. Raises: `Refused`, `ProblemError`, OSError."""
        while True:
            if digest not in self._coming and (path := self.path(digest)).exists():
                os.utime(path)
                return path.stat().st_size
            if own := digest not in self._coming:
                download = Download(self._link, address, digest, self.path(digest))
                self._coming[digest] = download, asyncio.create_task(self._fetch(digest, download, authorization))
            try:
                return await self._coming[digest][0].begun()
            except Refused:
                if own:
                    raise
                # Another device has no right to it: this one asks for itself.

    async def _fetch(self, digest: bytes, download: Download, authorization: str) -> None:
        """Goes on when the device that asked has gone: the others want it, too."""
        try:
            await download.fetch(authorization)
            self.fetched += 1
            _log.info("payload fetched", digest=digest.hex()[:12], bytes=download.size, crossed=download.received)
            self._make_room(digest)
        except Refused:
            pass  # its readers have been told
        except (ProblemError, OSError) as error:
            _log.error("payload not fetched", digest=digest.hex()[:12], error=str(error))
        finally:
            self._received += download.received
            del self._coming[digest]

    async def pieces(self, digest: bytes, begins: int, ends: int) -> AsyncIterator[bytes]:
        """Bytes of a payload of which `size` has been asked. Raises: as `size`."""
        coming = self._coming.get(digest)
        async for piece in coming[0].pieces(begins, ends) if coming else _read(self.path(digest), begins, ends):
            self.given += len(piece)
            yield piece

    def _make_room(self, newest: bytes) -> None:
        found = [(path.stat(), path) for path in self._folder.iterdir() if path.suffix != ".part"]
        over = sum(stat.st_size for stat, _ in found) - self._most_bytes
        for stat, path in sorted(found, key=lambda one: one[0].st_mtime):
            if over > 0 and path != self.path(newest):
                path.unlink()
                over -= stat.st_size

    async def stop(self) -> None:
        """What is on its way stays where it is, to go on."""
        tasks = [task for _, task in self._coming.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _read(path: Path, begins: int, ends: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        file.seek(begins)
        while begins < ends and (piece := file.read(min(_PIECE, ends - begins))):
            begins += len(piece)
            yield piece
