"""Thinwire beside Flower and NVFlare: `python -m benchmarks.peers [--quick] [--only thinwire,flower,nvflare]`.

The same arrays, clients that change every weight and train nothing, real processes on the loopback of one machine. Each
peer runs in a virtual environment of its own, made at the first use in `--cache`. Nothing else should run meanwhile:
bytes are those of the loopback interface. `--write` puts the results of an earlier measurement into docs/peers.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from benchmarks.peers import flower_peer, nvflare_peer, thinwire_peer
from benchmarks.peers.environments import default_cache, environment, version
from benchmarks.peers.page import DOCS, write_page
from benchmarks.peers.started import PeerFailedError
from benchmarks.peers.watching import Case, Cost, TooSlowError
from thinwire.machine.quantities import in_bytes
from thinwire.operator.console import console
from thinwire.operator.processes import ChildFailedError
from thinwire.operator.sheet import Sheet

CASES: Final = (
    Case(4, 1_600_000, 5),
    Case(10, 1_600_000, 5),
    Case(4, 40_000_000, 3),
    Case(10, 40_000_000, 3),
    Case(4, 200_000_000, 3),
)
AIMS: Final = {(4, 1_600_000): (0.5, None), (10, 40_000_000): (5.0, 0.4e9), (4, 200_000_000): (12.0, 1.6e9)}
"""(clients, size) -> seconds per round, bytes of memory; of Thinwire with plain chains."""
SYSTEMS: Final = ("thinwire", "flower", "nvflare")
Runner = Callable[[Case, Path], Cost]


def runners(only: Sequence[str], cache: Path) -> tuple[list[tuple[str, Runner]], dict[str, str], dict[str, str]]:
    """What is to be measured by name, versions, and why a peer is left out."""
    found: list[tuple[str, Runner]] = []
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    if "thinwire" in only:
        for chains in ("plain", "default"):
            found.append((f"thinwire, {chains} chains", _thinwire(chains)))
    for peer, run in (("flower", flower_peer.run), ("nvflare", nvflare_peer.run)):
        if peer not in only:
            continue
        try:
            binaries = environment(peer, cache)
            versions[peer] = version(peer, binaries)
            found.append((peer, _peer(run, binaries)))
        except (OSError, subprocess.CalledProcessError) as error:
            missing[peer] = f"its environment cannot be made: {error}"
    return found, versions, missing


def _thinwire(chains: str) -> Runner:
    return lambda case, folder: thinwire_peer.run(case, folder, chains=chains)


def _peer(run: Callable[[Case, Path, Path], Cost], binaries: Path) -> Runner:
    return lambda case, folder: run(case, folder, binaries)


def verdict(cost: Cost) -> str:
    """What the aims say of it."""
    seconds, memory = AIMS.get((cost.clients, cost.size), (None, None))
    if seconds is None or cost.system != "thinwire, plain chains":
        return ""
    broken = [f"{cost.seconds:.1f} > {seconds} s"] if cost.seconds > seconds else []
    if memory is not None and cost.memory_bytes > memory:
        broken.append(f"{in_bytes(cost.memory_bytes)} > {in_bytes(memory)}")
    return "; ".join(broken) or "holds"


def main() -> None:
    """Measures, prints a table, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the smallest case only")
    parser.add_argument("--only", default=",".join(SYSTEMS), help="which systems, separated by commas")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of the peers' environments")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/peers.json"))
    parser.add_argument("--write", action="store_true", help=f"only put the results of --out into {DOCS}")
    given = parser.parse_args()
    if given.write:
        write_page(json.loads(given.out.read_text()))
        return
    chosen = given.only.split(",")
    if unknown := set(chosen) - set(SYSTEMS):
        parser.error(f"no system is named {', '.join(sorted(unknown))}; there are {', '.join(SYSTEMS)}")
    found, versions, missing = runners(chosen, given.cache)
    costs: list[Cost] = []
    screen = console()
    for case in CASES[:1] if given.quick else CASES:
        for name, run in found:
            if name in missing:
                continue
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                try:
                    costs.append(run(case, Path(folder)))
                except (PeerFailedError, TooSlowError, ChildFailedError) as error:
                    missing[name] = f"{case.clients} x {in_bytes(case.size)}: {error}"
    columns = ("clients", "model", "system", "s/round", "memory", "client CPU s", "server CPU s", "wire", "aim")
    shown = Sheet("one round; CPU and wire per client", columns, text=("system", "aim"))
    for one in costs:
        shown.add_row(
            str(one.clients), in_bytes(one.size), one.system, f"{one.seconds:.2f}", in_bytes(one.memory_bytes),
            f"{one.client_cpu_s:.2f}", f"{one.server_cpu_s:.2f}", in_bytes(one.wire_bytes), verdict(one),
        )  # fmt: skip
    screen.print(shown)
    for name, why in missing.items():
        screen.print(f"left out: {name}: {why}")
    results: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "cpus": os.cpu_count(),
        "versions": versions, "left_out": missing, "costs": [asdict(one) for one in costs],
    }  # fmt: skip
    given.out.write_text(json.dumps(results, indent=2) + "\n")
    screen.print(f"written: {given.out}")


if __name__ == "__main__":
    main()
