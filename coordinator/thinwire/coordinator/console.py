"""What an operator reads: quantities, tables, one line for what went wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

PIPE_WIDTH: Final = 140


def console(*, stderr: bool = False) -> Console:
    """A console on standard output or error; wide enough for our tables where nobody says how wide it is."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(stderr=stderr, width=width, highlight=False)


def in_bytes(count: float) -> str:
    """Three digits and a unit: `812 B`, `27.1 kB`, `1.60 MB`."""
    for scale, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        # Not below the rounding up of 999.5 of the smaller unit.
        if abs(count) >= 0.9995 * scale:
            return f"{count / scale:#.3g}".rstrip(".") + f" {unit}"
    return f"{count:.0f} B"


def in_percent(part: float, whole: float) -> str:
    """`4.2 %`; `-` of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def in_figure(value: float | None) -> str:
    """Four digits; `-` where there is none."""
    return "-" if value is None else f"{value:.4f}"


def in_time(seconds: float | None) -> str:
    """A Unix time as people read it, UTC."""
    return "-" if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def table(title: str | None, columns: Iterable[str], *, text: Iterable[str] = ()) -> Table:
    """An empty table; columns are numbers, right-aligned, but those in `text`."""
    made = Table(title=title, title_justify="left", title_style="bold", header_style="dim", box=SIMPLE_HEAD)
    words = set(text)
    for name in columns:
        made.add_column(name, justify="left" if name in words else "right", no_wrap=True)
    return made
