"""The results page, docs/peers.md: its table comes from the JSON of a measurement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks.marked import fill, markdown
from thinwire.machine.quantities import in_bytes

DOCS: Final = Path("docs/peers.md")
COMMAND: Final = "python -m benchmarks.peers --write"
COLUMNS: Final = (
    "clients x model", "system", "s per round", "server memory", "client CPU s", "server CPU s", "wire",
)  # fmt: skip


def rendered(results: Mapping[str, Any]) -> str:
    """The part of the page that was measured."""
    versions = ", ".join(results["versions"].values())
    rows = [
        (f"{one['clients']} x {in_bytes(one['size'])}", one["system"], f"{one['seconds']:.2f}",
         in_bytes(one["memory_bytes"]), f"{one['client_cpu_s']:.2f}", f"{one['server_cpu_s']:.2f}",
         in_bytes(one["wire_bytes"]))
        for one in results["costs"]
    ]  # fmt: skip
    lines = [
        f"{results['date']}, {results['cpus']} CPUs, Python {results['python']}; {versions}.",
        "",
        markdown(COLUMNS, rows),
    ]
    lines += [f"\nLeft out: {name}: {why}" for name, why in results["left_out"].items()]
    return "\n".join(lines)


def write_page(results: Mapping[str, Any], page: Path = DOCS) -> None:
    """Puts the results into the page."""
    fill(page, COMMAND, rendered(results))
