"""What an operator reads, and figures and times in it."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any, Final

from rich.console import Console

from thinwire.machine.text import printable

PIPE_WIDTH: Final = 140


class Screen(Console):
    """Shows words as they are: no markup and no escape sequence in them has an effect, whoever wrote them."""

    def __init__(self, **given: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **given)

    def print(self, *objects: Any, **given: Any) -> None:
        super().print(*(printable(one, lines=True) if isinstance(one, str) else one for one in objects), **given)


def console(*, stderr: bool = False) -> Screen:
    """A screen on standard output or error; wide enough for our tables where nobody says how wide it is."""
    stream = sys.stderr if stderr else sys.stdout
    return Screen(stderr=stderr, width=None if stream.isatty() else PIPE_WIDTH)


def say(text: str) -> None:
    """Prints lines on standard output as they are, however long."""
    print(printable(text, lines=True))


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
