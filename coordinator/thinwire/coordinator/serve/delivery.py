"""Telling webhooks of events: in their order, each until it is taken, by one process at a time.

What has been taken is a number in a row, and events are rows: nothing is lost where a process ends, and what was taken
in its last moment is told once more, under the same id.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

import structlog

from thinwire.coordinator.records.events import Event
from thinwire.coordinator.records.events import Events as EventRows
from thinwire.coordinator.records.leases import Lease, LeaseLostError, Leases
from thinwire.coordinator.records.webhooks import WebhookRow
from thinwire.coordinator.records.webhooks import Webhooks as WebhookRows
from thinwire.coordinator.runs.rows import RunRow
from thinwire.coordinator.signals.signals import Signals
from thinwire.protocol.reasons import ProblemError

from .events import Events
from .posting import Posting
from .webhooks import body_of

LOOK_S: Final = 1.0
"""Between two looks for events, while there is a webhook."""
IDLE_S: Final = 30.0
"""Between two looks for webhooks where there is none, and no hint of one."""
FIRST_S: Final = 1.0
LONGEST_S: Final = 3600.0
_AT_ONCE: Final = 100
_log = structlog.get_logger("thinwire.coordinator")


def wait_s(failures: int) -> float:
    """After so many failures in a row: 1 s, 2 s, 4 s, up to an hour."""
    return float(min(FIRST_S * 2 ** (failures - 1), LONGEST_S))


class Delivering:
    """`holder`, `lease_s`: as a leader's. `clock`: Unix seconds. A webhook that takes nothing is tried again for as
    long as there are events, which is 30 days.
    """

    def __init__(
        self,
        rows: WebhookRows,
        events: EventRows,
        told: Events,
        posting: Posting,
        leases: Leases,
        signals: Signals,
        holder: str,
        lease_s: float | None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rows = rows
        self._events = events
        self._told = told
        self._posting = posting
        self._leases = leases
        self._signals = signals
        self._holder = holder
        self._lease_s = lease_s
        self._clock = clock
        self._held: dict[str, Lease] = {}
        self._passed: dict[str, int] = {}
        """Webhook -> the last event that was none for it; not worth a row."""

    async def deliver(self) -> None:
        """Until cancelled."""
        with self._signals.subscribe("webhooks") as heard:
            hurried: set[str] = set()
            while True:
                try:
                    pause_s = await self._look(hurried)
                except ProblemError as error:
                    _log.error("webhooks are not told", error=str(error))
                    pause_s = IDLE_S
                hurried = {name for _, name in await heard.wait(pause_s) if name}

    async def _look(self, hurried: set[str]) -> float:
        """Tells every webhook what it does not know; seconds to the next look. Raises: `storage-failed`,
        `storage-full`.
        """
        rows, now = await self._rows.all(), self._clock()
        due = [row for row in rows if row.id in hurried or row.next_at is None or row.next_at <= now]
        # One that stands still is not to hold up the others.
        await asyncio.gather(*map(self._tell, due))
        known = {row.id for row in rows}
        self._held = {name: lease for name, lease in self._held.items() if name in known}
        self._passed = {name: last for name, last in self._passed.items() if name in known}
        return LOOK_S if rows else IDLE_S

    async def _tell(self, row: WebhookRow) -> None:
        """Raises: `storage-failed`, `storage-full`."""
        last, failures = max(row.last, self._passed.get(row.id, 0)), row.failures
        try:
            for event in await self._events.after_any(last, _AT_ONCE):
                message = None if event.kind not in row.kinds else await self._told.told(event)
                if message is None or row.run not in (None, message[0].name):
                    self._passed[row.id] = event.id
                    continue
                lease = await self._lease(row.id)
                if lease is None:
                    return
                said = await self._post(row, event, message)
                if said is not None:
                    failures += 1
                    await self._rows.failed(lease, event.id - 1, failures, said, self._clock() + wait_s(failures))
                    _log.warning("webhook not told", webhook=row.id, of=event.id, failures=failures, why=said)
                    return
                await self._rows.took(lease, event.id)
                failures = 0
        except LeaseLostError:  # another process tells it, or nobody any more
            self._held.pop(row.id, None)

    async def _post(self, row: WebhookRow, event: Event, message: tuple[RunRow, str]) -> str | None:
        run, data = message
        body = body_of(row, event.id, event.kind, event.at, (run.id, run.name), data)
        return await self._posting.post(row.url, row.secret, f"{row.id}-{event.id}", self._clock(), body)

    async def _lease(self, webhook: str) -> Lease | None:
        """That of this process, if it has or gets it."""
        if webhook not in self._held:
            lease = await self._leases.acquire(webhook, self._holder, self._lease_s)
            if lease is not None:
                self._held[webhook] = lease
        return self._held.get(webhook)
