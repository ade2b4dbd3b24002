"""One payload on its way over the link: into a file that goes on where it stopped, and to all who read meanwhile."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

from thinwire.machine.files import file_digest
from thinwire.protocol.reasons import ProblemError

from .link import UNHEARD, Link, plain_headers, read_all

_PIECE: Final = 1 << 16
_TIMES_WRONG: Final = 3
_LONGEST_PAUSE_S: Final = 15.0
_RANGE: Final = re.compile(r"bytes (\d+)-\d+/(\d+)")


class Refused(Exception):  # noqa: N818 (it is the coordinator's answer, and none of ours)
    """The coordinator does not give it to this device."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(f"status {status}")
        self.status, self.headers, self.body = status, headers, body


class Download:
    """`address`: at the coordinator; `path`: of the whole file; what has come of it lies beside it. `size`: None until
    the coordinator has said it.
    """

    def __init__(self, link: Link, address: str, digest: bytes, path: Path) -> None:
        self._link = link
        self._address = address
        self._digest = digest
        self._whole = path
        self.part = path.with_suffix(".part")
        self.size: int | None = None
        self.received = 0
        """Bytes of it that have crossed the link."""
        self._arrived = 0
        self._right = False
        self._error: Exception | None = None
        self._moved = asyncio.Event()

    async def fetch(self, authorization: str) -> None:
        """Until it is there and right; as one device that may have it. Raises: `Refused`, `ProblemError`, OSError."""
        tries = wrong = 0
        try:
            while True:
                before = self._arrived
                try:
                    await self._fetch_once(authorization)
                except UNHEARD:
                    tries = 0 if self._arrived > before else tries + 1
                    await asyncio.sleep(random.uniform(0, min(_LONGEST_PAUSE_S, 0.2 * 2 ** min(tries, 10))))  # noqa: S311
                    continue
                if await asyncio.to_thread(file_digest, self.part) == self._digest:
                    self.part.replace(self._whole)
                    self._right = True
                    return
                self.part.unlink()
                wrong += 1
                if wrong == _TIMES_WRONG:
                    raise ProblemError("digest-mismatch", f"{self._address} arrived wrong {wrong} times")
        except BaseException as error:
            self._error = error if isinstance(error, Exception) else ProblemError("unavailable", "the relay stops")
            raise
        finally:
            self._move()

    async def _fetch_once(self, authorization: str) -> None:
        """Appends what comes; returns once all is there. Raises: `UNHEARD`, `Refused`, OSError."""
        offset = self.part.stat().st_size if self.part.exists() else 0
        if self.size is not None and offset == self.size:
            return None
        headers = {"Authorization": authorization, **({"Range": f"bytes={offset}-"} if offset else {})}
        async with self._link.open("GET", self._address, headers) as response:
            found = plain_headers(response)
            if response.status == 206 and (match := _RANGE.fullmatch(found.get("content-range", ""))):
                offset, size = int(match[1]), int(match[2])
            elif response.status == 200 and found.get("content-length", "").isdecimal():
                offset, size = 0, int(found["content-length"])
            else:
                body = await read_all(response)
                if response.status == 416:  # what has come of it is longer than it is
                    self.part.unlink()
                    return await self._fetch_once(authorization)
                raise Refused(response.status, found, body)
            with self.part.open("r+b" if self.part.exists() else "wb", buffering=0) as file:
                file.truncate(offset)
                file.seek(offset)
                self.size, self._arrived = size, offset
                self._move()
                async for piece in response.aiter_stream():
                    file.write(piece)
                    self.received += len(piece)
                    self._arrived += len(piece)
                    self._move()
        return None

    def _move(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def begun(self) -> int:
        """Its size, once that is known. Raises: what `fetch` raises."""
        while self.size is None:
            await self._wait()
        return self.size

    async def _wait(self) -> None:
        self._check()
        await self._moved.wait()
        self._check()

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    async def pieces(self, begins: int, ends: int) -> AsyncIterator[bytes]:
        """Its bytes as they come. The last one is given when all are known to be right: nobody takes a wrong payload
        for a whole one. Raises: what `fetch` raises.
        """
        size = await self.begun()
        with (self._whole if self._right else self.part).open("rb") as file:
            file.seek(begins)
            while begins < ends:
                there = size if self._right else min(self._arrived, size - 1)
                if there <= begins:
                    await self._wait()
                    continue
                piece = file.read(min(_PIECE, there - begins, ends - begins))
                if not piece:  # thrown away, to be fetched again
                    raise ProblemError("unavailable", "the payload arrived wrong")
                begins += len(piece)
                yield piece
