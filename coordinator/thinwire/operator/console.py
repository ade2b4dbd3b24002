"""What an operator reads: figures, times, tables."""

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


def in_percent(part: float, whole: float) -> str:
    """`4.2 %`; `-` of nothing."""
    return f"{100 * part / whole:.1f} %" if whole else "-"


def in_figure(value: float | None) -> str:
    """Four digits; `-` where there is none."""
    return "-" if value is None else f"{value:.4f}"


def in_bits(up: float, down: float) -> str:
    """Up and down, two digits each: `0.37/1.4`."""
    return f"{up:.2g}/{down:.2g}"


def in_count(count: int) -> str:
    """Thousands apart: `12 345`."""
    return f"{count:,}".replace(",", " ")


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
