"""The table of rounds: what a run has learned and what it has cost."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from .console import in_bytes, in_figure, in_percent, table
from .rounds import Round

COLUMNS = ("round", "accuracy", "loss", "up", "down", "framing", "total", "seconds")


def round_cells(one: Round) -> tuple[str, ...]:
    """One row, in the order of `COLUMNS`."""
    if one.round == 0:
        return ("start", in_figure(one.accuracy), in_figure(one.loss), "", "", "", "", "")
    return (
        str(one.round),
        in_figure(one.accuracy),
        in_figure(one.loss),
        in_bytes(one.uplink_bytes),
        in_bytes(one.downlink_bytes),
        in_percent(one.framing_bytes, one.wire_bytes),
        in_bytes(one.total_bytes),
        f"{one.seconds:.1f}",
    )


def round_table(rounds: Sequence[Round], *, last: int | None = None) -> Table:
    """All rounds, or the last so many. Accuracy and loss are of the model that the round made."""
    made = table(None, COLUMNS)
    for one in rounds if last is None else rounds[-last:]:
        made.add_row(*round_cells(one))
    return made
