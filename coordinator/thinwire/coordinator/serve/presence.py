"""Who is there: the polls that are parked at this process, and when each client was last heard."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final, Protocol

import structlog

from thinwire.coordinator.records.presence import Presence as PresenceRows
from thinwire.coordinator.runs.identity import fresh_id
from thinwire.coordinator.signals.signals import Hint, Signals
from thinwire.protocol.messages import Registration
from thinwire.protocol.reasons import ProblemError

_MOST_FORMER: Final = 8
SAVE_S: Final = 2.0
"""Between two writes of who was heard."""
_POLL: Final = "poll:"
_log = structlog.get_logger("thinwire.coordinator")


class Poll:
    """A registration that waits. `gone`: its connection has died, or it was told that there is nothing to wait for."""

    def __init__(self, client: str) -> None:
        self.client = client
        self.item = f"{_POLL}{fresh_id()}"
        self.gone = False

    def is_replaced_by(self, heard: set[Hint]) -> bool:
        """Whether among these hints a newer poll of the client says that it is there."""
        return any(item.startswith(_POLL) and item != self.item for _, item in heard)


class Line(Protocol):
    """A connection that clients ask over. `ended` is called when it has ended."""

    ended: Callable[[], None] | None


class Presence:
    """What the rows learn at once: who waits and who hung up, or has closed its last connection. What they
    learn every `SAVE_S`: everything else.

    `clock`: Unix seconds.
    """

    def __init__(self, rows: PresenceRows, signals: Signals, clock: Callable[[], float] = time.time) -> None:
        self._rows = rows
        self._signals = signals
        self._clock = clock
        self._parked: dict[str, Poll] = {}
        self._processes: dict[str, list[str]] = {}
        self._touched: set[str] = set()
        self._left: dict[str, bool] = {}
        self._closed: set[str] = set()
        self._client_of: dict[Line, str] = {}
        self._lines = Counter[str]()
        self._saving: asyncio.Task[None] | None = None

    @property
    def parked(self) -> int:
        """How many polls wait at this process."""
        return len(self._parked)

    async def asked(self) -> set[str]:
        """The clients whose polls wait at this process though there is a task for them. Raises: `storage-failed`."""
        return await self._rows.asked(list(self._parked)) if self._parked else set()

    def touch(self, client: str, line: Line | None = None) -> None:
        """The client has made a request, over this connection. With the last one of its connections it is gone."""
        self._touched.add(client)
        self._closed.discard(client)
        if client in self._left:
            self._left[client] = False
        if line is not None and (before := self._client_of.get(line)) != client:
            if before is not None:  # a proxy's, that carries another client now
                self._lines[before] -= 1
            self._client_of[line] = client
            self._lines[client] += 1
            line.ended = partial(self._ended, line)

    def _ended(self, line: Line) -> None:
        client = self._client_of.pop(line)
        self._lines[client] -= 1
        if self._lines[client]:
            return
        del self._lines[client]
        if client not in self._parked:  # else its poll hears of it
            self._touched.discard(client)
            if client in self._left:
                self._left[client] = True
            else:
                self._closed.add(client)
            if self._saving is None or self._saving.done():
                self._saving = asyncio.create_task(self._save_soon(), name="save-presence")

    async def _save_soon(self) -> None:
        with contextlib.suppress(ProblemError):  # the next save tries again
            await self.save()

    async def begin(self, client: str, process: str | None, start: int | None) -> None:
        """The client's process asks, the `start`-th of its folder where it says so. One at a time is told apart by its
        name alone. Raises: `client-doubled`, `storage-failed`, `storage-full`.
        """
        self._tell_apart(client, process)
        if process is not None and start is not None:
            try:
                await self._rows.begin(client, process, start)
            except ProblemError as problem:
                if problem.reason == "client-doubled":
                    _log.warning("a folder of this client was copied, or put back", client=client, start=start)
                raise

    def _tell_apart(self, client: str, process: str | None) -> None:
        """The process of the client that asks is the present one from now on. One that was followed by another and
        still asks is not the only one: a client that begins again never comes back as what it was before.

        Raises: `client-doubled`.
        """
        known = self._processes.setdefault(client, [])
        if process is None or (known and known[-1] == process):
            return
        if process in known:
            _log.warning("another process works as this client", client=client)
            raise ProblemError("client-doubled")
        known.append(process)
        del known[:-_MOST_FORMER]

    @contextlib.contextmanager
    def park(self, client: str) -> Iterator[Poll]:
        """The client's newest poll; an older one hears of it and ends."""
        poll = Poll(client)
        self._parked[client] = poll
        self._signals.publish(f"client:{client}", poll.item)
        try:
            yield poll
        finally:
            if self._parked.get(client) is poll:
                del self._parked[client]
                self._left[client] = poll.gone
                if poll.gone:
                    self._touched.discard(client)

    async def arrive(self, client: str, said: Registration) -> None:
        """The client is there and waits. Raises: `storage-failed`, `storage-full`."""
        self._touched.discard(client)
        self._closed.discard(client)
        self._left.pop(client, None)
        await self._rows.arrive(client, said.spec, said.holds or {}, self._clock(), said.software)

    async def said(self, client: str) -> Registration:
        """What the client said last: its model's spec, and whose parts it holds. Raises: `storage-failed`."""
        seen = await self._rows.get(client)
        return Registration() if seen is None else Registration(spec=seen.spec, holds=dict(seen.holds) or None)

    async def seen_at(self) -> dict[str, float]:
        """Client -> Unix seconds of its last request. Raises: `storage-failed`."""
        return {**await self._rows.seen_at(), **dict.fromkeys(self._touched, self._clock())}

    async def save(self) -> None:
        """Writes who was heard and who has left. Raises: `storage-failed`, `storage-full`; then nothing is lost."""
        touched, self._touched = self._touched, set()
        left, self._left = self._left, {}
        closed, self._closed = self._closed, set()
        now = self._clock()
        try:
            if touched:
                await self._rows.touch(sorted(touched), now)
            await self._rows.leave(left, now, closed)
        except ProblemError:
            self._touched |= touched
            self._closed |= closed - self._parked.keys() - self._touched
            for client, gone in left.items():
                if client not in self._parked:
                    self._left.setdefault(client, gone)
            raise
