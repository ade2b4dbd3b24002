"""The tables of docs/capacity.md from what `benchmarks.intake`, `benchmarks.outage` and `benchmarks.growth` have
stored: `python -m benchmarks.capacity`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.growth import COLUMNS, read, rows
from benchmarks.marked import fill, markdown
from thinwire.machine.quantities import in_bytes

HERE: Final = Path(__file__).parent
INTAKE, OUTAGE, GROWTH = HERE / "intake.json", HERE / "outage.json", HERE / "results" / "growth.json"
PAGE: Final = Path("docs/capacity.md")
COMMAND: Final = "python -m benchmarks.{}"


def intake_table(cases: Sequence[Mapping[str, Any]]) -> str:
    """One row for each size of an answer and number of clients."""
    columns = (
        "clients x answer",
        "no client",
        "all wait",
        "highest",
        "above waiting, in models",
        "disk",
        "taken per second",
        "bare endpoint",
    )
    rows = [
        (f"{one['clients']} x {in_bytes(one['model_bytes'])}", in_bytes(one["alone_bytes"]),
         in_bytes(one["idle_bytes"]), in_bytes(one["peak_bytes"]), f"{one['models']:.1f}",
         in_bytes(one["disk_bytes"]), in_bytes(one["rate"]), in_bytes(one["bare_rate"]))
        for one in cases
    ]  # fmt: skip
    return markdown(columns, rows)


def outage_table(cases: Sequence[Mapping[str, Any]]) -> str:
    """One row for each size of an answer."""
    columns = ("clients x answer", "accepted, two rounds", "refused", "broken", "seconds", "idle", "before", "highest")
    rows = [
        (f"{one['clients']} x {in_bytes(one['answer_bytes'])}", str(one["accepted"]), str(one["refused"]),
         str(one["broken"]), f"{one['seconds']:.1f}",
         *(f"{one[name]:.0f} MB" for name in ("memory_idle", "memory_before", "memory_most")))
        for one in cases
    ]  # fmt: skip
    return markdown(columns, rows)


def growth_table(held: Mapping[str, Any]) -> str:
    """One row for each number of clients."""
    return markdown(COLUMNS, rows(read(held)))


def main() -> None:
    """Puts the tables into the page."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    fill(PAGE, COMMAND.format("intake"), intake_table(json.loads(INTAKE.read_text())))
    fill(PAGE, COMMAND.format("outage"), outage_table(json.loads(OUTAGE.read_text())))
    fill(PAGE, COMMAND.format("growth"), growth_table(json.loads(GROWTH.read_text())))


if __name__ == "__main__":
    main()
