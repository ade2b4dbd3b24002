"""`thinwire run log`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

import typer

from thinwire.machine.quantities import in_bytes
from thinwire.machine.text import printable
from thinwire.operator.client import Coordinator
from thinwire.operator.console import in_time, say

from .options import Address, AsFormat, Format, RunName, operator, print_json, warn, with_options


@with_options
def log(
    run: RunName,
    *,
    since: Annotated[datetime | None, typer.Option(help="no line from before this time, UTC")] = None,
    everything: Annotated[bool, typer.Option("--all", help="from its first line on; default: the newest ones")] = False,
    at: Address,
    format_: AsFormat = Format.TABLE,
) -> None:
    """What has happened to a run, a line for each round, change and operator's deed, the oldest first."""
    least = None if since is None else since.replace(tzinfo=UTC).timestamp()
    lines, earlier = list[dict[str, Any]](), None
    with operator(at) as coordinator:
        for found in _pages(coordinator, run):
            lines += [line for line in found["lines"] if least is None or line["at"] >= least]
            earlier = found.get("earlier")
            wanted = everything if least is None else earlier is not None and earlier >= least
            if not wanted:
                break
    if format_ is Format.JSON:
        print_json({"lines": lines})
    else:
        for line in reversed(lines):
            wire = "" if line.get("wire_bytes") is None else f" ({in_bytes(line['wire_bytes'])})"
            say(f"{in_time(line['at'])}  {printable(line['said'])}{wire}")
    if earlier is not None and least is None and not everything:
        warn(["there are lines from before these: --all, or --since"])


def _pages(coordinator: Coordinator, run: str) -> Iterator[dict[str, Any]]:
    """The newest first."""
    before = ""
    while True:
        found = json.loads(coordinator.text(f"/activity.json?run={quote(run, safe='')}{before}", "application/json"))
        yield found
        if found.get("earlier") is None:
            return
        before = f"&before={found['earlier']!r}"
