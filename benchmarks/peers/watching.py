"""What a system of processes costs per round, looked at from outside, alike for every system.

Clients write the time into one file whenever they begin to work on a task. Everything is measured from the moment when
all of them have begun the first round to the moment when all have begun the last one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.process_watch import Peak, anonymous_bytes, cpu_seconds, descendants

STAMPS: Final = "THINWIRE_PEERS_STAMPS"
LOOK_S: Final = 0.02
Pids = Callable[[], Collection[int]]


class TooSlowError(Exception):
    """The rounds were not over in the time given."""


@dataclass(frozen=True, slots=True)
class Case:
    """`size`: of the model in bytes, float32."""

    clients: int
    size: int
    rounds: int
    arrays: int = 10


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one system in one case. `memory_bytes`: the highest sum of the anonymous resident memory of all server
    processes. Per client and round: CPU seconds, and `wire_bytes`, both directions with all headers, as the loopback
    interface counted them; what server processes of one system say to each other over it is in them.
    """

    system: str
    clients: int
    size: int
    seconds: float
    memory_bytes: int
    client_cpu_s: float
    server_cpu_s: float
    wire_bytes: float


def loopback_bytes() -> int:
    """What has gone over the loopback interface so far."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        name, _, counts = line.partition(":")
        if name.strip() == "lo":
            return int(counts.split()[8])
    raise OSError("there is no loopback interface")


def watch(system: str, case: Case, stamps: Path, servers: Pids, clients: Pids, alive: Callable[[], None]) -> Cost:
    """The cost of a run that has been started. `alive` raises where it has failed. Raises: `TooSlowError`."""
    with Peak(lambda: sum(anonymous_bytes(pid) for pid in servers())) as memory:
        begun = _when(case.clients, stamps, alive)
        before = _cpu(clients()), _cpu(servers()), loopback_bytes()
        ended = _when(case.clients * case.rounds, stamps, alive)
        after = _cpu(clients()), _cpu(servers()), loopback_bytes()
    rounds = case.rounds - 1
    client_cpu, server_cpu, wire = (end - start for start, end in zip(before, after, strict=True))
    client_rounds = rounds * case.clients
    return Cost(
        system, case.clients, case.size, (ended - begun) / rounds, memory.value,
        client_cpu / client_rounds, server_cpu / client_rounds, wire / client_rounds,
    )  # fmt: skip


def _when(count: int, stamps: Path, alive: Callable[[], None], patience_s: float = 600.0) -> float:
    """The time of the stamp number `count`."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        found = stamps.read_text().split() if stamps.exists() else []
        if len(found) >= count:
            return sorted(float(one) for one in found)[count - 1]
        alive()
        time.sleep(LOOK_S)
    raise TooSlowError(f"{len(found)} of {count} tasks were begun in {patience_s:.0f} s")


def _cpu(pids: Collection[int]) -> float:
    return sum(cpu_seconds(pid) for pid in pids)


def trees(*roots: int) -> Pids:
    """These processes and whatever they start."""
    return lambda: {pid for root in roots for pid in descendants(root)}
