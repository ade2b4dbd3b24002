"""Clients that ask for their tasks and answer them as fast as they can."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from benchmarks.growth_clients import Client, Marks
from thinwire.protocol.messages import TaskMessage
from thinwire.protocol.settings import RunSettings

from .deployment import Deployment
from .waiting import all_wait, share, until

SIZES: Final = (1000, 100_000, 1_600_000)
CLIENTS: Final = 100
EXCHANGES: Final = 6
"""The first is left out of what is timed."""
ASKED: Final = 5
"""How often each client asks for the task that it has."""
KINDS_OF_ANSWERS: Final = ("register", "idle", "answer")


@dataclass(frozen=True, slots=True)
class Answering:
    """One kind and size of answers, of so many clients at a time. Registrations of clients whose task is there, one
    after the other, and answers, from the first byte to the verdict, which waits up to 0.2 s for the next task: how
    many in a second, the seconds that half of them and 99 of 100 took. For each answer, with the poll that it brings
    and its share of opening and closing: processor seconds `cpu_s`, requests, bytes `uplink` and `downlink`, rows of
    PostgreSQL.
    """

    database: str
    replicas: int
    answer_bytes: int
    clients: int
    exchanges: int
    registrations_rate: float
    registrations_p50_s: float
    registrations_p99_s: float
    answers_rate: float
    answers_p50_s: float
    answers_p99_s: float
    cpu_s: float
    requests: float
    uplink: float
    downlink: float
    rows: float | None


async def measure(deployment: Deployment, size: int, clients: int, exchanges: int) -> Answering:
    """With a deployment that has no clients yet; two exchanges at least. Raises: `TimeoutError`."""
    settings = RunSettings(rounds=exchanges, cohort=clients, min_clients=clients, chains="plain", evaluate=False)
    run = await deployment.park("answers", size, settings)
    await deployment.park("another", size, settings)  # who asks while all runs are over is told so
    async with deployment.watched():
        fleet = await deployment.fleet(clients)
        await asyncio.to_thread(deployment.lab.command, run, "resume")
        tasks = await asyncio.gather(*(_task(one) for one in fleet))
        took = list[float]()
        began = time.monotonic()
        await asyncio.gather(*(_ask(one, took) for one in fleet))
        asked_s = time.monotonic() - began
        marks = Marks(deployment.used, exchanges - 1)
        crossed, rows = await deployment.crossed(KINDS_OF_ANSWERS), await deployment.rows()
        working = [asyncio.create_task(one.work(marks, task)) for one, task in zip(fleet, tasks, strict=True)]
        try:
            total = clients * exchanges
            await until(lambda: len(marks.answers) >= total, working, f"{total} answers are not taken")
            used = deployment.used()
            await all_wait(deployment, clients, working)
            crossed = await deployment.crossed(KINDS_OF_ANSWERS) - crossed
            after = await deployment.rows()
        finally:
            for one in working:
                one.cancel()
            await asyncio.gather(*working, return_exceptions=True)
    timed = [one for one in marks.answers if one.exchange > 0]
    began, before = marks.seen[1]
    lasted = [one.ended - one.began for one in timed]
    return Answering(
        deployment.kind.database, deployment.kind.replicas, size, clients, exchanges,
        len(took) / asked_s, share(took, 0.5), share(took, 0.99),
        len(timed) / (max(one.ended for one in timed) - began), share(lasted, 0.5), share(lasted, 0.99),
        (used - before) / len(timed), crossed.requests / total, crossed.uplink / total, crossed.downlink / total,
        None if rows is None or after is None else (after - rows) / total,
    )  # fmt: skip


async def _task(client: Client) -> TaskMessage:
    while (task := await client.register()) is None:
        pass
    return task


async def _ask(client: Client, took: list[float]) -> None:
    for _ in range(ASKED):
        began = time.monotonic()
        await _task(client)
        took.append(time.monotonic() - began)
