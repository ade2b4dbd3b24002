"""`thinwire bill`: what the wire has cost, and what runs will."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated, Any
from urllib.parse import quote

import typer

from thinwire.machine.quantities import in_bytes
from thinwire.operator.console import console, in_count, say
from thinwire.operator.sheet import Sheet

from .options import Address, operator, print_json, with_options


class BillFormat(StrEnum):
    """How the bill answers."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


@with_options
def bill(
    *,
    run: Annotated[str | None, typer.Option(help="only of this run")] = None,
    at: Address,
    format_: Annotated[BillFormat, typer.Option("--format", help="table, json, or csv by client")] = BillFormat.TABLE,
) -> None:
    """Bytes by run and kind, payload and framing apart, up to now, today and this month, and at a run's end.

    The kind `unaccounted` is what clients' own kernels have counted beyond the coordinator.
    """
    about = "" if run is None else f"?run={quote(run, safe='')}"
    with operator(at) as coordinator:
        if format_ is BillFormat.CSV:
            say(coordinator.text(f"/bill.csv{about}", "text/csv").removesuffix("\n"))
            return
        found: dict[str, Any] = json.loads(coordinator.text(f"/bill.json{about}", "application/json"))
    if format_ is BillFormat.JSON:
        print_json(found)
        return
    screen = console()
    runs = Sheet(None, ("run", "state", "bytes", "at its end", "budget"), text=("run", "state"))
    for one in found["runs"]:
        figures = (one["wire_bytes"], one.get("forecast_bytes"), one.get("max_bytes"))
        runs.add_row(one["run"], one["state"], *("" if size is None else in_bytes(size) for size in figures))
    screen.print(runs)
    directions = ("uplink_payload", "uplink_framing", "downlink_payload", "downlink_framing")
    columns = ("kind", "requests", *(name.replace("link_", " ") for name in directions))
    kinds = Sheet(None, columns, text=("kind",))
    for one in found["kinds"]:
        sizes = (in_count(one[f"{name}_bytes"]) for name in directions)
        kinds.add_row(one["kind"] or "(none)", in_count(one["requests"]), *sizes)
    screen.print(kinds)
    if run is not None:
        say("with what the run's clients cost without a run: enrolment, polls without a task, connections")
    sums = {"in all": found["wire_bytes"], "this month": found["month_bytes"], "today": found["today_bytes"]}
    say(", ".join(f"{name} {in_bytes(size)}" for name, size in sums.items()))
