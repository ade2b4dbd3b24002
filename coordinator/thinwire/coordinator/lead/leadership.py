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

BEAT_S = 1.0
"""Between two signs of life, and two looks for runs that nobody leads, where there are several processes."""
TTL_S = 3.0
"""Whoever gives none for so long leads nothing any more."""
_log = structlog.get_logger("thinwire.coordinator")


class Leadership:
    """`start` first, `stop` last. `holder`: this process's name. `make`: a leader for a lease. `ttl_s`: what its leases
    are good for unless they are renewed, where other processes may lead; None: it is alone.
    """

    def __init__(
        self,
        runs: Runs,
        leases: Leases,
        make: Callable[[Lease], Leader],
        signals: Signals,
        clock: Clock,
        holder: str,
        ttl_s: float | None,
    ) -> None:
        self._runs = runs
        self._leases = leases
        self._make = make
        self._signals = signals
        self._clock = clock
        self._holder = holder
        self._ttl_s = ttl_s
        self._leaders: dict[str, Leader] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._background: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Leads what there is, and whatever is created from now on. Raises: `storage-failed`, `storage-full`."""
        if self._ttl_s is not None:
            await self._leases.beat(self._holder, self._ttl_s)
            beating = asyncio.create_task(self._beat(self._ttl_s), name="beat")
            self._background.append(beating)
        await self._lead_all()
        self._background.append(asyncio.create_task(self._look_for_runs(), name="look-for-runs"))

    async def stop(self) -> None:
        """Leads nothing any more. Open exchanges stay open, with the time they have left."""
        tasks = [*self._background, *self._tasks.values()]
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        with contextlib.suppress(ProblemError):
            await self.save_clocks()
        if self._ttl_s is not None:
            with contextlib.suppress(ProblemError):
                await self._leases.leave(self._holder)
            self._signals.publish("runs")

    async def save_clocks(self) -> None:
        """What open offers have left outlives the process. Raises: `storage-failed`, `storage-full`."""
        for leader in list(self._leaders.values()):
            with contextlib.suppress(LeaseLostError):
                await leader.save_clock()

    async def _look_for_runs(self) -> None:
        with self._signals.subscribe("runs") as created:
            while True:
                with contextlib.suppress(ProblemError):
                    await self._lead_all()
                await created.wait(None if self._ttl_s is None else BEAT_S)

    async def _lead_all(self) -> None:
        """Every run that nobody leads. Raises: `storage-failed`, `storage-full`."""
        for run in await self._leases.free():
            if run not in self._tasks:
                await self._lead(run)

    async def _beat(self, ttl_s: float) -> None:
        """Renews the leases. A run whose lease was lost is led no more, and none is while that cannot be known."""
        lived_at = self._clock.monotonic()
        while True:
            await asyncio.sleep(BEAT_S)
            begun_at = self._clock.monotonic()
            try:
                held = await self._leases.beat(self._holder, ttl_s)
            except ProblemError:
                held = {}
                if self._clock.monotonic() - lived_at < ttl_s:
                    continue
            else:
                lived_at = begun_at
            for run, leader in list(self._leaders.items()):
                if held.get(run) != leader.epoch:
                    _log.warning("the run is led elsewhere", run=run)
                    self._tasks[run].cancel()

    async def _lead(self, run: str) -> None:
        lease = await self._leases.acquire(run, self._holder, self._ttl_s)
        if lease is None:
            return
        if lease.ends:
            _log.info("leads the run", run=run, epoch=lease.epoch, holder=self._holder)
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
