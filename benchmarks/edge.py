"""What a device is asked for: disk, memory, bytes while nothing happens, seconds to its first contribution.

`python -m benchmarks.edge`, over TLS, with the command that a device runs and the digits, in about five minutes, most
of them idle. It writes benchmarks/edge.json and the tables of docs/edge.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import distribution
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch
from packaging.requirements import Requirement

from benchmarks.counting_proxy import CountingProxy
from benchmarks.marked import fill, markdown
from benchmarks.process_watch import EVERY_S, Peak, anonymous_bytes, cpu_seconds
from thinwire.edge_client.link.polling import LONGEST_POLL_S
from thinwire.edge_client.standing import read_status
from thinwire.machine.quantities import in_bytes
from thinwire.operator.console import console
from thinwire.operator.lab import Lab
from thinwire.protocol.settings import RunSettings

HERE: Final = Path(__file__).parent
FOUND: Final = HERE / "edge.json"
PAGE: Final = Path("docs/edge.md")
COMMAND: Final = "python -m benchmarks.edge"
DAY_S: Final = 86_400
LONGEST_PAUSE_S: Final = 300
"""Of a client that no run could use: `thinwire.edge_client.agent`."""
DIGITS: Final = ("--task", "digits", "--share", "0/8")
_SHOWN: Final = ("torch", "sympy", "numpy", "networkx", "setuptools")


def installed() -> dict[str, int]:
    """Bytes of every distribution that `thinwire[client]` brings into this environment, by name."""
    sizes: dict[str, int] = {}
    todo = [("thinwire", frozenset({"client"}))]
    while todo:
        name, extras = todo.pop()
        found = distribution(name)
        if name not in sizes:
            sizes[name] = (
                _own_bytes()
                if name == "thinwire"
                else sum(_size(Path(str(file.locate()))) for file in found.files or ())
            )
        for text in found.requires or ():
            needed = Requirement(text)
            wanted = any(needed.marker is None or needed.marker.evaluate({"extra": extra}) for extra in extras or {""})
            if wanted and needed.name.lower() not in sizes:
                todo.append((needed.name.lower(), frozenset(needed.extras)))
    return sizes


def _own_bytes() -> int:
    roots = [HERE.parent / root / "thinwire" for root in ("codecs", "protocol", "coordinator", "edge_client")]
    return sum(_size(path) for root in roots for path in root.rglob("*") if path.suffix != ".pyc")


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def resident_bytes(pid: int) -> int:
    """Resident memory, code and mapped files among it; 0 of a process that has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int((text.partition("VmRSS:")[2].split() or ["0"])[0]) * 1024


def contribute(lab: Lab) -> dict[str, Any]:
    """One client from its start to the end of a run of three rounds that it serves alone."""
    model = lab.store(lab.first_model(DIGITS[:2]))
    settings = RunSettings(name="first", rounds=3, cohort=1, evaluate=False)
    run, began = lab.start_run(model, settings).id, time.monotonic()
    child = lab.join("first", lab.write_invite("first"), (*DIGITS, "--forever"))
    pid, seconds = child.process.pid, dict[str, float]()
    with Peak(lambda: anonymous_bytes(pid)) as own, Peak(lambda: resident_bytes(pid)) as all_:
        for name, reached in {
            "joined": lambda: (status := read_status(lab.folder / "first")) is not None and status.client != "",
            "first": lambda: lab.view(run).round >= 2 or lab.view(run).state == "finished",
            "over": lambda: lab.view(run).state == "finished",
        }.items():
            _until(reached)
            seconds[name] = time.monotonic() - began
    processor_s = cpu_seconds(pid)
    _until(lambda: (status := read_status(lab.folder / "first")) is not None and status.state == "waiting")
    time.sleep(2)
    idle = {"own": anonymous_bytes(pid), "resident": resident_bytes(pid)}
    lab.children.end(child)
    return {
        "seconds": seconds,
        "processor_s": processor_s,
        "training": {"own": own.value, "resident": all_.value},
        "idle": idle,
    }


def idle(lab: Lab, span_s: float) -> dict[str, Any]:
    """Bytes of two clients that have nothing to do: one whose run waits for others, one that no run could use."""
    model = lab.store(lab.first_model(DIGITS[:2]))
    waits = RunSettings(name="waits", rounds=1, cohort=2, group="waits")
    lab.start_run(model, waits)
    over = RunSettings(name="over", rounds=1, cohort=1, group="over", evaluate=False)
    lab.start_run(model, over)
    with CountingProxy(lab.url) as for_run, CountingProxy(lab.url) as for_none:
        for proxy, name in ((for_run, "waits"), (for_none, "over")):
            invite = lab.write_invite(name, group=name)
            lab.join(name, invite, (*DIGITS, "--forever"), url=proxy.url)
            _until(lambda name=name: (s := read_status(lab.folder / name)) is not None and s.client != "")  # type: ignore[misc]
        _until(lambda: lab.view("over").state == "finished")
        time.sleep(2)
        seen = {name: [proxy.total] for proxy, name in ((for_run, "waits"), (for_none, "over"))}
        began = time.monotonic()
        while time.monotonic() - began < span_s:
            time.sleep(0.5)
            for proxy, name in ((for_run, "waits"), (for_none, "over")):
                if proxy.total != seen[name][-1]:
                    # What belongs to one request and its reply comes within a moment.
                    time.sleep(0.5)
                    seen[name].append(proxy.total)
    return {
        "span_s": span_s,
        **{name: _spent(totals) for name, totals in seen.items()},
    }


def _spent(totals: Sequence[tuple[int, int]]) -> dict[str, int]:
    """Whoever sends something asks; the answer may come much later."""
    asks = sum(after[0] > before[0] for before, after in pairwise(totals))
    return {"asks": asks, "up": totals[-1][0] - totals[0][0], "down": totals[-1][1] - totals[0][1]}


def _until(reached: Callable[[], bool]) -> None:
    while not reached():
        time.sleep(EVERY_S)


def installed_table(found: Mapping[str, Any]) -> str:
    """One row for each large part, and the sum."""
    sizes: dict[str, int] = found["installed"]
    rows = [(name if name != "torch" else f"torch {found['torch']}", in_bytes(sizes[name])) for name in _SHOWN]
    rest = [name for name in sizes if name not in (*_SHOWN, "thinwire")]
    rows.append((f"{len(rest)} others", in_bytes(sum(sizes[name] for name in rest))))
    rows.append(("thinwire itself", in_bytes(sizes["thinwire"])))
    rows.append(("all of `thinwire[client]`", in_bytes(sum(sizes.values()))))
    return markdown(("installed", "on disk"), rows)


def costs_table(found: Mapping[str, Any]) -> str:
    """Memory, seconds, bytes."""
    first, quiet = found["contribute"], found["idle"]
    rows = [
        ("from its start until it has joined", f"{first['seconds']['joined']:.1f} s"),
        ("until its first answer counts", f"{first['seconds']['first']:.1f} s"),
        ("of a processor until its run of three rounds is over", f"{first['processor_s']:.1f} s"),
        ("memory of its own while it waits", in_bytes(first["idle"]["own"])),
        ("memory of its own while it trains, at most", in_bytes(first["training"]["own"])),
        ("resident at most, libraries among it", in_bytes(first["training"]["resident"])),
    ]
    for name, said, every_s in (
        ("waits", "a run waits for others", LONGEST_POLL_S),
        ("over", "no run at all", LONGEST_PAUSE_S),
    ):
        asks, carried = quiet[name]["asks"], quiet[name]["up"] + quiet[name]["down"]
        rows.append(
            (f"to ask once for a task, {said}", f"{carried / asks:.0f} B ({asks} times in {quiet['span_s']:.0f} s)")
        )
        rows.append((f"an idle day, {said}: asked every {every_s} s", in_bytes(carried / asks * DAY_S / every_s)))
    return markdown(("what", "measured"), rows)


def text(found: Mapping[str, Any]) -> str:
    """Both tables, and on what."""
    kind = f"{found['machine']}, Python {found['python']}"
    busy = f"at a load of {found['load']:.0f}: the seconds would be fewer on a machine with nothing else to do"
    machine = f"On {found['processors']} processors ({kind}) which the coordinator and other programs share, {busy}."
    return f"{installed_table(found)}\n\n{costs_table(found)}\n\n{machine}"


def _certified(folder: Path) -> tuple[list[str], Path]:
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return ["--certificate", str(certificate), "--key", str(key)], certificate


def main() -> None:
    """Measures, prints the tables, writes them and the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--span", type=float, default=240.0, help="seconds of idleness; 0 keeps what was found before")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="thinwire-edge-") as name:
        options, certificate = _certified(Path(name))
        with Lab(Path(name), options, ca_file=certificate) as lab:
            lab.serve()
            found = {
                "machine": platform.machine(), "processors": len(os.sched_getaffinity(0)),
                "python": platform.python_version(), "torch": torch.__version__, "installed": installed(),
                "contribute": contribute(lab), "load": os.getloadavg()[0],
                "idle": idle(lab, given.span) if given.span else json.loads(FOUND.read_text())["idle"],
            }  # fmt: skip
    FOUND.write_text(json.dumps(found, indent=2) + "\n")
    fill(PAGE, COMMAND, text(found))
    console().print(text(found), markup=False)


if __name__ == "__main__":
    main()
