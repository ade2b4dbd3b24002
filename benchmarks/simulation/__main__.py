"""Thinwire's simulation beside Flower's: `python -m benchmarks.simulation [--quick] [--only thinwire,flower]`.

The same model, examples, clients and rounds, all of whom take part in every round, by one computer and all of its
processors: a small network that is trained, and a larger one of which every weight is changed and nothing is trained.
Flower runs in an environment of its own, made at the first use in `--cache`, with its default backend (Ray) and the
torch of this one; it sends arrays as they are, and so does Thinwire here (`chains=plain`). Each case is run for few
rounds and for more: the difference, divided by the rounds between, is a round; what is left is the start. Memory: the
largest sum of the anonymous resident memory of all processes, what they share counted once. Nothing else should run
meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.peers.environments import default_cache, environment, version
from benchmarks.process_watch import Peak, descendants, shared_bytes
from thinwire.machine.quantities import in_bytes
from thinwire.operator.console import console
from thinwire.operator.sheet import Sheet

HERE: Final = Path(__file__).parent
FEW, MORE = 1, 3
LOOK_S: Final = 0.2
LIMIT_S: Final = 1800.0
SYSTEMS: Final = ("thinwire", "flower")


@dataclass(frozen=True, slots=True)
class Case:
    """`work`: `train` or `idle`."""

    work: str
    clients: int


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one system in one case. `seconds`: of a round; `start_s`: of everything else."""

    system: str
    work: str
    clients: int
    seconds: float
    start_s: float
    memory_bytes: int


CASES: Final = (Case("train", 100), Case("idle", 100), Case("train", 1000), Case("idle", 1000))


def command(system: str, case: Case, rounds: int, folder: Path, binaries: Path | None) -> list[str]:
    """What simulates so many rounds."""
    if binaries is not None:
        return [str(binaries / "python"), str(HERE / "flower_app.py"), case.work, str(case.clients), str(rounds)]
    return [
        sys.executable, "-m", "thinwire.operator", "simulate", "--task", str(HERE / f"{case.work}_task.py"),
        "--clients", str(case.clients), "--split", "iid", "--rounds", str(rounds), "--set", "chains=plain",
        "--set", "evaluate=false", "--report", str(folder / "report"), "--format", "json",
    ]  # fmt: skip


def measured(words: Sequence[str], folder: Path) -> tuple[float, int]:
    """Seconds, and bytes of memory. Raises: `subprocess.CalledProcessError`, `subprocess.TimeoutExpired`."""
    environment = os.environ | {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=folder)
        with Peak(lambda: sum(map(shared_bytes, descendants(process.pid))), LOOK_S) as memory:
            try:
                code = process.wait(LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
    if code:
        raise subprocess.CalledProcessError(code, words[:3], (folder / "log").read_text()[-2000:])
    return time.monotonic() - began, memory.value


def cost(system: str, case: Case, binaries: Path | None) -> Cost:
    """Of this case. Raises as `measured`."""
    found = {}
    for rounds in (FEW, MORE):
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            words = command(system, case, rounds, Path(folder), binaries)
            found[rounds] = measured(words, Path(folder))
    each = (found[MORE][0] - found[FEW][0]) / (MORE - FEW)
    memory = max(memory for _, memory in found.values())
    return Cost(system, case.work, case.clients, each, found[FEW][0] - FEW * each, memory)


def main() -> None:
    """Measures, prints a table, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="100 clients only")
    parser.add_argument("--only", default=",".join(SYSTEMS), help="which systems, separated by commas")
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of the peers' environments")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/simulation.json"))
    given = parser.parse_args()
    versions: dict[str, str] = {}
    costs: list[Cost] = []
    failed: dict[str, str] = {}
    for system in given.only.split(","):
        binaries = None
        if system == "flower":
            binaries = environment("flower-simulation", given.cache, with_ours=Path(torch.__file__).parent.parent)
            versions["flower"] = version("flower-simulation", binaries)
        for case in CASES[:2] if given.quick else CASES:
            try:
                costs.append(cost(system, case, binaries))
                _write(given.out, versions, failed, costs)
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
                failed[f"{system}, {case.work}, {case.clients}"] = f"{error}: {error.output or ''}"[-500:]
    columns = ("work", "clients", "system", "s/round", "start s", "memory")
    shown = Sheet("one simulated round", columns, text=("work", "system"))
    for one in sorted(costs, key=lambda one: (one.clients, one.work, one.system)):
        shown.add_row(
            one.work, str(one.clients), one.system, f"{one.seconds:.2f}", f"{one.start_s:.1f}",
            in_bytes(one.memory_bytes),
        )  # fmt: skip
    screen = console()
    screen.print(shown)
    for name, why in failed.items():
        screen.print(f"left out: {name}: {why}", markup=False)
    _write(given.out, versions, failed, costs)
    screen.print(f"written: {given.out}")


def _write(path: Path, versions: dict[str, str], failed: dict[str, str], costs: list[Cost]) -> None:
    """What there is so far: the larger cases take minutes."""
    results: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "cpus": os.cpu_count(),
        "versions": versions, "left_out": failed, "costs": [asdict(one) for one in costs],
    }  # fmt: skip
    path.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
