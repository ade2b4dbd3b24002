"""The results page, docs/peers.md: its table comes from the JSON of a measurement."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from thinwire.coordinator.console import in_bytes

DOCS: Final = Path("docs/peers.md")
BEGIN: Final = "<!-- measured: python -m benchmarks.peers --write -->"
END: Final = "<!-- end of measured -->"


def rendered(results: Mapping[str, Any]) -> str:
    """The part of the page that was measured."""
    versions = ", ".join(results["versions"].values())
    lines = [
        f"{results['date']}, {results['cpus']} CPUs, Python {results['python']}; {versions}.",
        "",
        "| clients x model | system | s per round | server memory | client CPU s | server CPU s | wire |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in results["costs"]:
        lines.append(
            f"| {one['clients']} x {in_bytes(one['size'])} | {one['system']} | {one['seconds']:.2f} "
            f"| {in_bytes(one['memory_bytes'])} | {one['client_cpu_s']:.2f} | {one['server_cpu_s']:.2f} "
            f"| {in_bytes(one['wire_bytes'])} |"
        )
    lines += [f"\nLeft out: {name}: {why}" for name, why in results["left_out"].items()]
    return "\n".join(lines)


def write_page(results: Mapping[str, Any], page: Path = DOCS) -> None:
    """Puts the results into the page."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{BEGIN}\n\n{rendered(results)}\n\n{END}{after}")
