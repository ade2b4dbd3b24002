"""Places in pages that a command fills with what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

END: Final = "<!-- end of measured -->"


def begin(command: str) -> str:
    """The line before the place that this command fills."""
    return f"<!-- measured: {command} -->"


def fill(page: Path, command: str, text: str) -> None:
    """Puts the text into the command's place. Raises: `ValueError` where the page has none."""
    before, found, rest = page.read_text().partition(begin(command))
    if not found:
        raise ValueError(f"{page} has no place for {command}")
    _, _, after = rest.partition(END)
    page.write_text(f"{before}{found}\n\n{text}\n\n{END}{after}")


def filled(page: Path, command: str) -> str:
    """What stands in the command's place."""
    return page.read_text().partition(begin(command))[2].partition(END)[0].strip()


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (columns, ["---"] * len(columns), *rows))
