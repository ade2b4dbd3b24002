"""One upload: how far it has come, who appends to it, and where its client is to go on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from thinwire.coordinator.objects.partial import CHUNK, Tail
from thinwire.protocol.reasons import ProblemError

from .tasks import TaskFacts

BEGIN_S: Final = 0.02
"""What an older connection had delivered begins to be read within this time."""
QUIET_S: Final = 0.1
"""An older connection that brings nothing for this long has delivered what had arrived of it."""
SETTLE_S: Final = 5.0
"""An older connection that goes on delivering is cut off after this long: its client waits for the offset."""


@dataclass(slots=True)
class Upload:
    """`offset`: bytes that have arrived, of `length` with this `digest`. `touched_at`: monotonic seconds of the last
    one. `interrupted`: the last reader ended before its client meant to.

    Where others go on with uploads too: `epoch`, under which it is held here; `elsewhere`: so many bytes of it are only
    in the store; `stored`: so many are there, since `stored_at`; `gathered`: is called when a chunk more has come.
    """

    id: str
    task: TaskFacts
    length: int
    digest: bytes
    offset: int
    touched_at: float
    interrupted: bool = False
    epoch: int = 0
    elsewhere: int = 0
    stored: int = 0
    stored_at: float = field(default_factory=time.monotonic)
    gathered: Callable[[Upload], None] | None = None
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _unsure_from: int | None = None
    _newest: int = 0
    _drained: asyncio.Event | None = None
    _moved: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def client(self) -> str:
        """Whose it is."""
        return self.task.client

    @property
    def run(self) -> str:
        """The run whose task it answers."""
        return self.task.run

    @property
    def sure(self) -> int:
        """Bytes that have arrived and need no check any more."""
        return self.offset if self._unsure_from is None else self._unsure_from

    @contextlib.contextmanager
    def reading(self, tail: Tail, *, checked: bool = False) -> Iterator[Reader]:
        """The newest reader, which appends to this end of the file; older ones end. `checked`: what it appends may be
        forgotten again, until it ends.
        """
        self.cut()
        self._unsure_from = self.offset if checked else None
        drained = self._drained = asyncio.Event()
        self.interrupted = True
        self._moved.set()
        try:
            yield Reader(self, tail, self._newest)
            self.interrupted = False
        finally:
            drained.set()
            self._moved.set()
            if drained is self._drained:
                self._unsure_from = None

    def cut(self) -> None:
        """Whoever is appending ends with its next piece."""
        self._newest += 1

    def is_read_by(self, number: int) -> bool:
        """Whether this reader is the newest, and nobody has cut it off."""
        return number == self._newest

    def came(self, offset: int) -> None:
        """So many bytes have arrived by now."""
        self.offset = offset
        self.touched_at = time.monotonic()
        self._moved.set()
        if self.gathered is not None and self.sure - self.stored >= CHUNK and not self.writing.locked():
            self.gathered(self)

    async def settle(self) -> int:
        """The offset, which stays as it is until the next reader begins.

        Asked for on a new connection, this may be reached before all that the older one had delivered: that is read on
        to its end, for as long as it moves and at most `SETTLE_S`.
        """
        until = time.monotonic() + SETTLE_S
        while (left_s := until - time.monotonic()) > 0:
            self._moved.clear()
            being_read = self._drained is not None and not self._drained.is_set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, QUIET_S if being_read else BEGIN_S)):
                    await self._moved.wait()
            if not self._moved.is_set():
                break
        self.cut()
        return self.offset


class Reader:
    """One request that appends, from offset `begins` on."""

    def __init__(self, upload: Upload, tail: Tail, number: int) -> None:
        self.begins = upload.offset
        self._upload = upload
        self._tail = tail
        self._number = number

    def append(self, chunk: bytes) -> None:
        """Raises: `upload-offset` (a newer reader took over), `upload-too-large`, OSError."""
        self._check()
        upload = self._upload
        room = upload.length - upload.offset
        try:
            self._tail.write(memoryview(chunk)[:room])
        finally:
            upload.came(self._tail.offset)
        if len(chunk) > room:
            raise ProblemError("upload-too-large", f"more than the {upload.length} bytes that were announced")

    def rewind(self) -> None:
        """Forgets what this reader appended: not the bytes that its client meant. Raises: `upload-offset`, OSError."""
        self._check()
        self._tail.truncate(self.begins)
        self._upload.offset = self.begins

    def _check(self) -> None:
        if not self._upload.is_read_by(self._number):
            raise ProblemError("upload-offset", "a newer request goes on with this upload")
