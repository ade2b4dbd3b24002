"""Tables for any width: a figure is never cut. What does not fit stands below, in further tables of the same rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.table import Table
from rich.text import Text

from thinwire.machine.text import printable

_LEAST_TEXT = 16
"""The width at which a column of words is still read."""


class Sheet:
    """A table that is filled row by row. Columns are numbers, right-aligned, but those in `text`, which may be broken
    into lines (keys only where they take more than half the width). Where it is too wide, `spare` columns are left out,
    in this order; then the rest is divided among several tables, and each begins with the first `keys` columns.
    """

    def __init__(
        self, title: str | None, columns: Sequence[str], *, text: Iterable[str] = (), spare: Sequence[str] = (),
        keys: int = 1,
    ) -> None:  # fmt: skip
        self.title = title
        self.caption: str | None = None
        self._columns = [printable(name) for name in columns]
        self._text, self._spare, self._keys = frozenset(text), list(spare), keys
        self._rows: list[tuple[str, ...]] = []
        self._sections: set[int] = set()
        self._firm = True

    def add_row(self, *cells: str) -> None:
        """A cell for each column, in their order, whoever wrote them."""
        self._rows.append(tuple(printable(cell) for cell in cells))

    def add_section(self) -> None:
        """A line below the last row."""
        self._sections.add(len(self._rows) - 1)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        self._firm = True
        self._firm = self._width(range(self._keys)) <= options.max_width // 2
        parts = self._parts(options.max_width)
        for index, part in enumerate(parts):
            made = self._table(part)
            made.title = Text(printable(self.title)) if self.title is not None and index == 0 else None
            made.caption = Text(printable(self.caption)) if self.caption and index == len(parts) - 1 else None
            yield made

    def _parts(self, width: int) -> list[list[int]]:
        """The columns of each table."""
        chosen = list(range(len(self._columns)))
        for name in self._spare:
            if self._width(chosen) > width:
                chosen.remove(self._columns.index(name))
        if self._width(chosen) <= width:
            return [chosen]
        keys = chosen[: self._keys]
        parts = [list(keys)]
        for index in chosen[self._keys :]:
            if self._width([*parts[-1], index]) > width and len(parts[-1]) > len(keys):
                parts.append(list(keys))
            parts[-1].append(index)
        return parts

    def _width(self, columns: Sequence[int]) -> int:
        # A blank at each side of a cell, one between two of them, and one at each side of the table.
        return sum(self._needs(index) + 3 for index in columns) + 1

    def _needs(self, index: int) -> int:
        needed = max(cell_len(cell) for cell in (self._columns[index], *(row[index] for row in self._rows)))
        return min(needed, _LEAST_TEXT) if self._may_break(index) else needed

    def _may_break(self, index: int) -> bool:
        return self._columns[index] in self._text and not (self._firm and index < self._keys)

    def _table(self, columns: Sequence[int]) -> Table:
        made = Table(
            title_justify="left", title_style="bold", caption_justify="left", header_style="dim", box=SIMPLE_HEAD
        )
        for index in columns:
            justify: JustifyMethod = "left" if self._columns[index] in self._text else "right"
            firm = not self._may_break(index)
            made.add_column(Text(self._columns[index]), justify=justify, no_wrap=firm, overflow="fold")
        for number, row in enumerate(self._rows):
            made.add_row(*(Text(row[index]) for index in columns), end_section=number in self._sections)
        return made
