"""The events of a run as they happen, server-sent: numbered, so that whoever was cut off goes on behind the last."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Final

from thinwire.coordinator.records.events import Event
from thinwire.coordinator.records.events import Events as EventRows
from thinwire.coordinator.runs.rows import RunRow
from thinwire.coordinator.signals.signals import Hint, Signals
from thinwire.protocol.reasons import ProblemError

from .reads import Reads

HEARTBEAT_S: Final = 15.0
LOOK_S: Final = 1.0
"""Between two looks for events of all runs."""
MOST_AT_ONCE: Final = 500
HEARTBEAT: Final = b":\n\n"


class Events:
    """Kinds: `run` tells the run as it stands, `answer` how many count, `exchange` the figures of a closed one."""

    def __init__(self, rows: EventRows, reads: Reads, signals: Signals) -> None:
        self._rows = rows
        self._reads = reads
        self._signals = signals

    async def of(self, run: str, last: int | None, may_read: Callable[[], None]) -> AsyncIterator[bytes]:
        """The run as it stands, then what happens, until the run is over, or the process ends. `last`: the id of the
        last event that the reader has seen, if it has. `may_read` raises a `ProblemError` where the reader may not any
        more: then they end too. Raises: `run-not-found`, `storage-failed`.
        """
        with self._signals.subscribe(f"events:{run}", "access", "stop") as heard:
            if last is None:
                last = await self._rows.last_id(run)
            view = await self._reads.view(await self._reads.find(run))
            yield _event("run", view.model_dump_json(exclude_none=True), last)
            hints: set[Hint] = set()
            while True:
                events = await self._rows.after(run, last, MOST_AT_ONCE)
                for event in events:
                    last = event.id
                    data = await self._data(run, event)
                    if data is not None:
                        yield _event(event.kind, data, last)
                before, is_news = view, any(event.kind == "run" for event in events)
                if is_news or (hints and not events):
                    view = await self._reads.view(await self._reads.find(run))
                    if is_news or view.reason != before.reason:  # a trouble is no event
                        yield _event("run", view.model_dump_json(exclude_none=True), last)
                if len(events) == MOST_AT_ONCE:
                    continue
                if view.state == "finished":
                    return
                hints = await heard.wait(HEARTBEAT_S)
                try:
                    may_read()
                except ProblemError:
                    return
                if ("stop", "") in hints:
                    return
                if not hints:
                    yield HEARTBEAT

    async def of_all(self, last: int | None, may_read: Callable[[], None]) -> AsyncIterator[bytes]:
        """What happens to any run, each event once and no id left out, until the process ends. `last`, `may_read`: as
        of `of`; without `last` it begins with what happens next. Raises: `storage-failed`.
        """
        with self._signals.subscribe("access", "stop") as heard:
            if last is None:
                last = await self._rows.last_id()
            yield f"id: {last}\n\n".encode()
            quiet_s = 0.0
            while True:
                events = await self._rows.after_any(last, MOST_AT_ONCE)
                for event in events:
                    last = event.id
                    yield _event(event.kind, json.dumps(asdict(event)), last)
                if len(events) == MOST_AT_ONCE:
                    continue
                hints = await heard.wait(LOOK_S)
                try:
                    may_read()
                except ProblemError:
                    return
                if ("stop", "") in hints:
                    return
                quiet_s = 0.0 if events else quiet_s + LOOK_S
                if quiet_s >= HEARTBEAT_S:
                    quiet_s = 0.0
                    yield HEARTBEAT

    async def last_id(self) -> int:
        """Of the newest event of any run. Raises: `storage-failed`."""
        return await self._rows.last_id()

    async def told(self, event: Event) -> tuple[RunRow, str] | None:
        """Its run, and what is told of it, as JSON: of kind `run`, the run as it stands by now. None: it is gone.

        Raises: `storage-failed`.
        """
        try:
            row = await self._reads.find(event.run)
        except ProblemError as problem:
            if problem.reason != "run-not-found":
                raise
            return None
        if event.kind == "run":
            return row, (await self._reads.view(row)).model_dump_json(exclude_none=True)
        data = await self._data(event.run, event)
        return None if data is None else (row, data)

    async def _data(self, run: str, event: Event) -> str | None:
        """What is told of it; None: nothing beside the run itself."""
        if event.kind == "answer":
            return f'{{"exchange":{event.exchange},"answers":{event.answers}}}'
        metrics = None if event.exchange is None else await self._reads.exchange(run, event.exchange)
        return None if metrics is None else metrics.model_dump_json(exclude_none=True)


def _event(kind: str, data: str, number: int) -> bytes:
    return f"id: {number}\nevent: {kind}\ndata: {data}\n\n".encode()
