"""What an answer costs the coordinator while ten clients wait for it, or ten thousand: `python -m benchmarks.growth`.

Two processes: a coordinator, and this one with all clients, which train nothing and answer inline. Every client waits
for a task; each exchange asks a tenth of them. Measured over all exchanges but the first, from its first task to the
next one's: the coordinator's processor time for each answer (the next poll of its client, opening and closing
included) and the seconds of an exchange; before them, the processor time of a poll that finds nothing and waits, and
the anonymous memory that a waiting client takes.

Where a process may not open as many files as so many connections need, it measures as many clients as there is room
for, and says so.

Limit: an answer costs at most 1.5 times the processor time that it does with 100 clients.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save_file

from benchmarks.growth_clients import Client, Marks, at_most, let_have, room_for, said_of_room
from benchmarks.intake.load import Connection, Payload
from benchmarks.pictures import curves
from benchmarks.process_watch import anonymous_bytes, cpu_seconds
from benchmarks.store import written
from thinwire.machine.files import write_atomic
from thinwire.machine.quantities import in_bytes
from thinwire.operator.console import console
from thinwire.operator.lab import Lab
from thinwire.operator.sheet import Sheet
from thinwire.protocol.settings import RunSettings

ROUNDS: Final = {10: 101, 100: 31, 1000: 11, 10_000: 4}
"""Clients -> exchanges; the first is left out."""
QUICK: Final = (10, 100, 1000)
SHARE: Final = 10
"""An exchange asks one of so many."""
BASE: Final = 100
LIMIT: Final = 1.5
MEMORY_FROM: Final = 100
"""With fewer clients what a process allocates anyway hides what they take."""
AT_ONCE: Final = 64
LIMIT_S: Final = 1200.0
OPTIONS: Final = (
    "--max-connections-per-address", "100000",
    "--max-requests-per-address", "1000000",
    "--present-for", "86400",
    "--log-level", "error",
)  # fmt: skip
OUT: Final = Path("benchmarks/results/growth.json")
PICTURE: Final = Path("docs/images/results/growth.png")


@dataclass(frozen=True, slots=True)
class Grown:
    """One number of clients. `exchanges`: those measured, of `cohort` answers each; processor seconds of the
    coordinator: `answers_cpu_s` during them, `polls_cpu_s` while all `clients` came to wait; `seconds`: of all measured
    exchanges; `waiting_bytes`: memory for all that wait; `again`: answers sent again, in all exchanges.
    """

    clients: int
    cohort: int
    exchanges: int
    answers_cpu_s: float
    polls_cpu_s: float
    seconds: float
    waiting_bytes: int
    again: int

    @property
    def answer_ms(self) -> float:
        """Processor milliseconds for an answer."""
        return 1e3 * self.answers_cpu_s / (self.exchanges * self.cohort)

    @property
    def poll_ms(self) -> float:
        """Processor milliseconds for a poll."""
        return 1e3 * self.polls_cpu_s / self.clients

    @property
    def exchange_s(self) -> float:
        return self.seconds / self.exchanges

    @property
    def client_bytes(self) -> float | None:
        """Memory for each client that waits; None where there are too few to tell."""
        return self.waiting_bytes / self.clients if self.clients >= MEMORY_FROM else None


async def _parked(asking: Connection) -> int:
    text = (await asking.ask("GET", "/metrics")).decode()
    return int(float(text.partition("\nthinwire_parked_clients ")[2].split()[0]))


async def _play(lab: Lab, clients: int, exchanges: int) -> Grown:
    pid = lab.coordinator.process.pid
    model = lab.folder / "model.safetensors"
    save_file({"weights": np.zeros(64, np.float32)}, model)
    digest = await asyncio.to_thread(lab.store, model)
    invite = await asyncio.to_thread(lab.invite, clients)
    plans: dict[bytes, asyncio.Task[Payload]] = {}
    fleet = [Client(index, Connection("127.0.0.1", lab.port), plans) for index in range(clients)]
    await fleet[0].enrol(invite)
    await fleet[0].register(0)  # what is loaded and opened with the first request of all is no memory of a client
    await at_most(AT_ONCE, [partial(one.enrol, invite) for one in fleet[1:]])
    asking = Connection("127.0.0.1", lab.port)
    await asking.open()
    marks = Marks(partial(cpu_seconds, pid), exchanges)
    memory, used = anonymous_bytes(pid), cpu_seconds(pid)
    working = [asyncio.create_task(one.work(marks)) for one in fleet]
    try:
        while await _parked(asking) < clients:
            _check(working)
            await asyncio.sleep(0.2)
        polls, waiting = cpu_seconds(pid) - used, anonymous_bytes(pid) - memory
        cohort = clients // SHARE
        settings = RunSettings(
            name="growth", rounds=exchanges + 1, cohort=cohort, min_clients=clients, chains="plain", evaluate=False
        )
        await asyncio.to_thread(lab.start_run, digest, settings)
        over = asyncio.create_task(marks.over.wait())
        await asyncio.wait([over, *working], timeout=LIMIT_S, return_when=asyncio.FIRST_COMPLETED)
        over.cancel()
        _check(working)
        if not marks.over.is_set():
            raise TimeoutError(f"{clients} clients: {len(marks.seen)} of {exchanges} exchanges after {LIMIT_S:.0f} s")
    finally:
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
    (began, before), (ended, after) = marks.seen[1], marks.seen[exchanges]
    return Grown(clients, cohort, exchanges - 1, after - before, polls, ended - began, waiting, marks.again)


def _check(working: Iterable[asyncio.Task[None]]) -> None:
    for task in working:
        if task.done():
            task.result()


def measure(lab: Lab, clients: int, exchanges: int) -> Grown:
    """With a coordinator that listens; it is killed at the end, so that nobody is told that the run is over."""
    found = asyncio.run(_play(lab, clients, exchanges))
    lab.kill()
    return found


def verdicts(found: Sequence[Grown]) -> list[tuple[Grown, float | None, bool]]:
    """Each with the processor time of an answer relative to that at `BASE` clients, None without one or with fewer
    clients, and whether that is within the limit.
    """
    base = next((one.answer_ms for one in found if one.clients == BASE), None)
    lines = []
    for one in found:
        growth = None if base is None or one.clients <= BASE else one.answer_ms / base
        lines.append((one, growth, growth is None or growth <= LIMIT))
    return lines


def rows(found: Sequence[Grown]) -> list[tuple[str, ...]]:
    """The table: a row for each number of clients, cells as text."""
    return [
        (f"{one.cohort:,} of {one.clients:,}", f"{one.answer_ms:.2f} ms", "-" if growth is None else f"{growth:.2f}x",
         f"{one.poll_ms:.2f} ms", f"{one.exchange_s:.2f} s",
         "-" if one.client_bytes is None else in_bytes(one.client_bytes))
        for one, growth, _ in verdicts(found)
    ]  # fmt: skip


COLUMNS: Final = ("answers", "processor per answer", "growth", "per poll", "an exchange", "memory per waiting client")


def draw(found: Sequence[Grown], path: Path) -> None:
    """A PNG: processor time against clients."""
    series = {
        "an answer, all that it brings with it": [(one.clients, one.answer_ms) for one in found],
        "a poll that waits": [(one.clients, one.poll_ms) for one in found],
    }
    title = "What the coordinator does for each answer while a tenth of all clients is asked"
    curves(series, title, "clients that are there (log scale)", "processor milliseconds", path)


def stored(found: Sequence[Grown]) -> str:
    """The file: a line for each number of clients."""
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "python": platform.python_version()}
    cells = {str(one.clients): asdict(one) for one in found}
    return written({"measured": {"day": datetime.now(UTC).date().isoformat(), **machine}, "cells": cells})


def read(held: Mapping[str, Any]) -> list[Grown]:
    """What `stored` wrote, by clients."""
    return sorted((Grown(**cell) for cell in held["cells"].values()), key=lambda one: one.clients)


def main() -> None:
    """Measures, prints a table, writes it as JSON, draws it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 1,000 clients: less than a minute")
    parser.add_argument("--clients", type=int, nargs="+", choices=sorted(ROUNDS), help="these numbers only")
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    given = parser.parse_args()
    screen, found = console(), []
    for wanted in given.clients or (QUICK if given.quick else ROUNDS):
        clients = room_for(wanted)
        if said := said_of_room(wanted, clients):
            screen.print(said)
        let_have(clients)
        with tempfile.TemporaryDirectory() as root, Lab(Path(root), OPTIONS, environment={}) as lab:
            lab.serve()
            found.append(measure(lab, clients, ROUNDS[wanted]))
    shown = Sheet("the coordinator, a tenth of all clients asked", COLUMNS)
    for row in rows(found):
        shown.add_row(*row)
    screen.print(shown)
    for one, growth, holds in verdicts(found):
        if not holds:
            screen.print(f"{one.clients} clients: an answer costs {growth:.2f} times as much as with {BASE}")
    write_atomic(given.out, stored(found).encode(), fsync=False, mode=0o644)
    draw(found, given.picture)
    screen.print(f"written: {given.out}, {given.picture}")


if __name__ == "__main__":
    main()
