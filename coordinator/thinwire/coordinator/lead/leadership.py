"""Which runs this process leads: every unfinished one whose lease it is granted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog

from thinwire.coordinator.records.leases import Lease, LeaseLostError, Leases
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.signals.signals import Signals
from thinwire.protocol.reasons import ProblemError

from .clock import Clock
from .hearing import RETRY_S
from .leader import Leader

_log = structlog.get_logger("thinwire.coordinator")


class Leadership:
    """`start` first, `stop` last. `holder`: this process's name. `make`: a leader for a lease."""

    def __init__(
        self, runs: Runs, leases: Leases, make: Callable[[Lease], Leader], signals: Signals, clock: Clock, holder: str
    ) -> None:
        self._runs = runs
        self._leases = leases
        self._make = make
        self._signals = signals
        self._clock = clock
        self._holder = holder
        self._leaders: dict[str, Leader] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Leads what there is, and whatever is created from now on. Raises: `storage-failed`, `storage-full`."""
        for row in await self._runs.unfinished():
            await self._lead(row.id)
        self._looking = asyncio.create_task(self._look_for_runs(), name="look-for-runs")

    async def stop(self) -> None:
        """Leads nothing any more. Open exchanges stay open, with the time they have left."""
        tasks = [*self._tasks.values(), *([self._looking] if self._looking is not None else [])]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        with contextlib.suppress(ProblemError):
            await self.save_clocks()

    async def save_clocks(self) -> None:
        """What open offers have left outlives the process. Raises: `storage-failed`, `storage-full`."""
        for leader in list(self._leaders.values()):
            with contextlib.suppress(LeaseLostError):
                await leader.save_clock()

    async def _look_for_runs(self) -> None:
        with self._signals.subscribe("runs") as created:
            while True:
                with contextlib.suppress(ProblemError):
                    for row in await self._runs.unfinished():
                        if row.id not in self._tasks:
                            await self._lead(row.id)
                await created.wait(None)

    async def _lead(self, run: str) -> None:
        lease = await self._leases.acquire(run, self._holder, self._clock.wall(), None)
        if lease is None:
            return
        leader = self._leaders[run] = self._make(lease)
        self._tasks[run] = asyncio.create_task(self._lead_on(leader), name=f"lead-{run}")

    async def _lead_on(self, leader: Leader) -> None:
        """To the end of the run; a defect of the leader itself is logged, and it begins again from the rows."""
        try:
            while True:
                try:
                    await leader.lead()
                    return
                except Exception:
                    _log.exception("defect", run=leader.run)
                    await asyncio.sleep(RETRY_S)
        finally:
            self._leaders.pop(leader.run, None)
            self._tasks.pop(leader.run, None)
