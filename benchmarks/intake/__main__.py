"""Memory and speed of the coordinator while it takes answers: `python -m benchmarks.intake [--quick]`.

Clients that train nothing answer three rounds in plain float32 (twelve where a round is milliseconds), each with an
answer of its own. Measured: the anonymous resident memory of the coordinator's process: with no client, idle with all
of them connected and waiting for a task, and its highest value over the whole run (start, broadcast, intake, closing,
final model) looked at every 10 ms; the bytes of answers taken per second, from the first byte sent until the last
answer is checked, stored and summed; the disk its folder takes at most. The same bytes go to a bare uvicorn endpoint
that streams to disk with SHA-256, right before.

Limits: at the largest number of clients at most 1.1 times the memory at 10 (200 MB: 1.5 times that at 1); never more
than idle plus five models; at least half the speed of the bare endpoint.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import save_file

from benchmarks.process_watch import Peak, anonymous_bytes, folder_bytes
from thinwire.machine.quantities import in_bytes
from thinwire.operator.console import console
from thinwire.operator.lab import Lab
from thinwire.operator.processes import Child, Children, finish
from thinwire.operator.sheet import Sheet
from thinwire.protocol.settings import RunSettings

ARRAYS: Final = 10
END_S: Final = 300.0
CASES: Final = {1_600_000: (1, 10, 100), 40_000_000: (1, 10, 100), 200_000_000: (1, 10)}
QUICK: Final = {1_600_000: (1, 10), 40_000_000: (1, 10)}
MODELS: Final = 5
SHARE: Final = 0.5


@dataclass(frozen=True, slots=True)
class Measured:
    """One size and number of clients. Bytes; bytes per second of the fastest round."""

    model_bytes: int
    clients: int
    alone_bytes: int
    idle_bytes: int
    peak_bytes: int
    disk_bytes: int
    rate: float
    bare_rate: float

    @property
    def models(self) -> float:
        """Memory above that of waiting clients, in models."""
        return (self.peak_bytes - self.idle_bytes) / self.model_bytes

    @property
    def share(self) -> float:
        return self.rate / self.bare_rate


def _rounds(size: int, clients: int) -> int:
    return 3 if size * clients > 100_000_000 else 12


def _model(path: Path, size: int) -> None:
    random = np.random.default_rng(0)
    each = size // 4 // ARRAYS
    save_file({f"layer{n}.weight": random.standard_normal(each, np.float32) for n in range(ARRAYS)}, path)


def _load(children: Children, name: str, arguments: list[str]) -> Child:
    return children.start(name, "benchmarks.intake.load", arguments, os.environ)


def _seconds(load: Child) -> float:
    """Of the fastest round, when all have ended."""
    finish(load, END_S)
    return float(min(json.loads(load.log.read_text().splitlines()[-1])))


def _run(lab: Lab, name: str, size: int, clients: int) -> tuple[float, int]:
    """A whole run with clients of its own: seconds of its fastest intake, and memory when all clients wait for it."""
    invite, model = lab.write_invite(name, clients, group=name), lab.folder / f"{name}.safetensors"
    rounds = _rounds(size, clients)
    wanted = ["--clients", str(clients), "--rounds", str(rounds), "--invite", str(invite), "--name", name]
    load = _load(lab.children, f"load-{name}", [lab.url, *wanted])
    while f"\nthinwire_parked_clients {clients:.1f}\n" not in lab.operator.text("/metrics", "text/plain"):
        lab.children.check()
        time.sleep(0.05)
    idle = anonymous_bytes(lab.coordinator.process.pid)
    _model(model, size)
    settings = RunSettings(name=name, group=name, rounds=rounds, cohort=clients, chains="plain", evaluate=False)
    run = lab.start_run(model, settings)
    seconds = _seconds(load)
    lab.follow(run)
    return seconds, idle


def _bare(root: Path, size: int, clients: int) -> float:
    """Seconds of the fastest round of the bare endpoint."""
    with Children(root / "logs") as children:
        children.start("bare", "benchmarks.intake.bare", [str(root / "bare")], os.environ)
        while not (root / "bare" / "url").exists():
            children.check()
            time.sleep(0.02)
        url = (root / "bare" / "url").read_text()
        wanted = ["--clients", str(clients), "--rounds", str(_rounds(size, clients)), "--bare-bytes", str(size)]
        return _seconds(_load(children, "bare-load", [url, *wanted]))


def measure(size: int, clients: int, root: Path) -> Measured:
    """One case, by fresh processes in a folder of their own."""
    bare_s = _bare(root, size, clients)
    with Lab(root, environment={}) as lab:
        pid = lab.serve().process.pid
        # What is loaded and opened with the first run of all is no memory of this one.
        _run(lab, "first", 1000 * 4 * ARRAYS, 1)
        alone = anonymous_bytes(pid)
        with (
            Peak(lambda: anonymous_bytes(pid)) as memory,
            Peak(lambda: folder_bytes(lab.data_dir), every_s=0.1) as disk,
        ):
            seconds, idle = _run(lab, "intake", size, clients)
    total = clients * size
    return Measured(size, clients, alone, idle, memory.value, disk.value, total / seconds, total / bare_s)


def verdicts(found: list[Measured]) -> list[tuple[Measured, float | None, list[str]]]:
    """Each case with its memory relative to that at 10 clients (1 of 200 MB), and the limits it breaks."""
    lines = []
    for one in found:
        few, most = (1, 1.5) if one.model_bytes >= 200_000_000 else (10, 1.1)
        base = next((two for two in found if two.model_bytes == one.model_bytes and two.clients == few), None)
        growth = None if base is None or one.clients <= few else one.peak_bytes / base.peak_bytes
        broken = [
            what
            for what, breaks in (
                ("growth", growth is not None and growth > most),
                ("models", one.models > MODELS),
                ("share", one.share < SHARE),
            )
            if breaks
        ]
        lines.append((one, growth, broken))
    return lines


def main() -> None:
    """Measures, prints a table, writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 40 MB and 10 clients: less than a minute")
    parser.add_argument("--only", type=int, metavar="BYTES", help="models of this size")
    parser.add_argument("--clients", type=int, help="this number only")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/intake.json"))
    given = parser.parse_args()
    found = []
    for size, numbers in (QUICK if given.quick else CASES).items():
        for clients in numbers:
            if given.only not in (None, size) or given.clients not in (None, clients):
                continue
            with tempfile.TemporaryDirectory() as root:
                found.append(measure(size, clients, Path(root)))
    columns = (
        "answer", "clients", "no client", "idle", "peak", "models", "growth", "disk", "MB/s", "bare MB/s", "share",
        "verdict",
    )  # fmt: skip
    shown = Sheet("the coordinator's anonymous memory and its intake", columns, text=("verdict",))
    for one, growth, broken in verdicts(found):
        shown.add_row(
            in_bytes(one.model_bytes), str(one.clients), in_bytes(one.alone_bytes), in_bytes(one.idle_bytes),
            in_bytes(one.peak_bytes),
            f"{one.models:.2f}", "-" if growth is None else f"{growth:.2f}x", in_bytes(one.disk_bytes),
            f"{one.rate / 1e6:.0f}", f"{one.bare_rate / 1e6:.0f}", f"{one.share:.0%}",
            f"breaks {', '.join(broken)}" if broken else "holds",
        )  # fmt: skip
    screen = console()
    screen.print(shown)
    rows = [
        asdict(one) | {"models": one.models, "growth": growth, "share": one.share, "broken": broken}
        for one, growth, broken in verdicts(found)
    ]
    given.out.write_text(json.dumps(rows, indent=2) + "\n")
    screen.print(f"written: {given.out}")


if __name__ == "__main__":
    main()
