"""Tables of results, for a terminal and for a page; and what an experiment set out to reach, and whether it did."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.console import Console

from thinwire.operator.sheet import Sheet


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as text; the first column is left-aligned."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def show(self, screen: Console) -> None:
        made = Sheet(self.title, self.columns, text=self.columns[:1])
        for row in self.rows:
            made.add_row(*row)
        screen.print(made)

    def markdown(self) -> str:
        lines = [f"**{self.title}**", "", _line(self.columns), _line(["---", *["---:"] * (len(self.columns) - 1)])]
        return "\n".join([*lines, *(_line(row) for row in self.rows), ""])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`aim` and `found` as text; `holds`: whether the aim was reached."""

    claim: str
    aim: str
    found: str
    holds: bool


def verdict_table(verdicts: Iterable[Verdict]) -> Table:
    """One row each."""
    rows = [(one.claim, one.aim, one.found, "yes" if one.holds else "no") for one in verdicts]
    return Table("aims", ("claim", "aim", "found", "reached"), rows)
