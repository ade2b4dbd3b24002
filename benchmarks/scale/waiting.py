"""Clients that wait, and a cohort of them that is woken."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.growth_clients import Client
from thinwire.protocol.settings import RunSettings

from .deployment import LOOK_S, Deployment

SHARE: Final = 10
"""An exchange asks one of so many."""
WAKES: Final = {10: 15, 100: 9, 1000: 5, 10_000: 3}
"""Clients -> how often a cohort is woken."""
IDLE_POLLS: Final = 10
MODEL_BYTES: Final = 1000
LIMIT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """One kind and number of clients. Memory of all coordinators above that without clients: `enrolled_bytes` with all
    clients enrolled and connected, `waiting_bytes` with all of them waiting. `polls_s`, `polls_cpu_s`, `polls_rows`:
    seconds, processor seconds and rows of PostgreSQL until the polls of all wait, begun at once. `idle_bytes`: a poll
    that finds nothing, both ways. Of each waking: `last_s`, seconds until the last of `cohort` clients has its task;
    over all of them: `p50_s`, `p99_s`.
    """

    database: str
    replicas: int
    clients: int
    cohort: int
    enrolled_bytes: int
    waiting_bytes: int
    polls_s: float
    polls_cpu_s: float
    polls_rows: int | None
    idle_bytes: float
    last_s: list[float]
    p50_s: float
    p99_s: float

    @property
    def client_bytes(self) -> float:
        """Memory of a client that waits."""
        return self.waiting_bytes / self.clients

    @property
    def woken_s(self) -> float:
        """Seconds until the last has its task, of the middle waking."""
        return statistics.median(self.last_s)

    @property
    def polls_rate(self) -> float:
        """Polls in a second that come to wait."""
        return self.clients / self.polls_s


class _Calls:
    """Clients that poll until they have a task, and again when `again` is set; `came`: seconds of each task."""

    def __init__(self) -> None:
        self.came: list[float] = []
        self.again = asyncio.Event()

    async def wait(self, client: Client) -> None:
        """Without an end."""
        while True:
            while await client.register() is None:
                pass
            self.came.append(time.monotonic())
            await self.again.wait()


def share(values: Sequence[float], part: float) -> float:
    """The smallest of the values that so large a part of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(part * len(ordered)) - 1)]


def check(working: Iterable[asyncio.Task[None]]) -> None:
    """Raises what one of them has raised."""
    for task in working:
        if task.done():
            task.result()


async def measure(deployment: Deployment, clients: int, wakes: int) -> Waiting:
    """With a deployment that has no clients yet. Raises: `TimeoutError`."""
    cohort = max(1, clients // SHARE)
    settings = RunSettings(rounds=1, cohort=cohort, min_clients=clients, chains="plain", evaluate=False)
    # One more than is played: who waits while all runs are over is told so.
    runs = [await deployment.park(f"wake-{number}", MODEL_BYTES, settings) for number in range(wakes + 1)]
    async with deployment.watched():
        fleet = await deployment.fleet(clients)
        enrolled = deployment.memory() - deployment.alone_bytes
        before = await deployment.crossed(["idle"])
        for _ in range(IDLE_POLLS):
            await fleet[0].register(0)
        idle = await deployment.crossed(["idle"]) - before
        rows, used, began = await deployment.rows(), deployment.used(), time.monotonic()
        calls = _Calls()
        working = [asyncio.create_task(calls.wait(one)) for one in fleet]
        try:
            await all_wait(deployment, clients, working)
            polls_s, polls_cpu_s = time.monotonic() - began, deployment.used() - used
            waiting = deployment.memory() - deployment.alone_bytes
            after = await deployment.rows()
            last, came = [], list[float]()
            for run in runs[:wakes]:
                calls.came.clear()
                began = time.monotonic()
                await asyncio.to_thread(deployment.lab.command, run, "resume")
                await until(lambda: len(calls.came) >= cohort, working, f"{cohort} of {clients} clients are not woken")
                came += [moment - began for moment in calls.came]
                last.append(max(calls.came) - began)
                await asyncio.to_thread(deployment.lab.give_up, run)
                calls.again.set()
                await all_wait(deployment, clients, working)
                calls.again.clear()
        finally:
            for task in working:
                task.cancel()
            await asyncio.gather(*working, return_exceptions=True)
    return Waiting(
        deployment.kind.database, deployment.kind.replicas, clients, cohort, enrolled, waiting, polls_s, polls_cpu_s,
        None if rows is None or after is None else after - rows,
        (idle.uplink + idle.downlink) / max(1, idle.requests), last, share(came, 0.5), share(came, 0.99),
    )  # fmt: skip


async def all_wait(deployment: Deployment, clients: int, working: Iterable[asyncio.Task[None]]) -> None:
    """Returns when so many polls wait. Raises: `TimeoutError`, and what one of the clients has raised."""
    ends = time.monotonic() + LIMIT_S
    while (parked := await deployment.parked()) < clients:
        check(working)
        if time.monotonic() > ends:
            raise TimeoutError(f"{parked} of {clients} clients wait after {LIMIT_S:.0f} s")
        await asyncio.sleep(LOOK_S)


async def until(reached: Callable[[], bool], working: Iterable[asyncio.Task[None]], what: str) -> None:
    """Returns when it is reached. `what`: said if that takes too long. Raises: as `all_wait`."""
    ends = time.monotonic() + LIMIT_S
    while not reached():
        check(working)
        if time.monotonic() > ends:
            raise TimeoutError(f"{what} after {LIMIT_S:.0f} s")
        await asyncio.sleep(LOOK_S)
