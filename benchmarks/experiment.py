"""An experiment from its cells to its tables and pictures, and the command line that all experiments share."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.cells import RESULTS, SHARED, Cell
from benchmarks.measuring import measure
from benchmarks.outcomes import Outcome
from benchmarks.store import Store
from benchmarks.tables import Table
from thinwire.operator.console import console

Groups = Mapping[str, Sequence[Outcome]]
"""Setting -> the outcomes of its seeds."""


Points = Mapping[str, Sequence[tuple[float, float, str]]]
"""Series -> x, accuracy, and what is written beside the point."""


@dataclass(frozen=True, slots=True)
class Picture:
    """`name`: appended to the experiment's; `groups`: curves of accuracy against bytes; or `points` and what x is."""

    name: str
    title: str
    groups: Groups = field(default_factory=dict)
    points: Points = field(default_factory=dict)
    xlabel: str = ""


def no_pictures(_: Groups) -> Sequence[Picture]:
    return ()


def no_facts(_store: Store, _given: argparse.Namespace) -> None:
    """Nothing is measured beside the cells."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """`id`: of its files; `text`: what is measured, and how; `measure_facts`: puts what is no run into the store;
    `remarks`: what the figures say, for the page.
    """

    id: str
    text: str
    cells: Callable[[argparse.Namespace], list[Cell]]
    tables: Callable[[Store], Sequence[Table]]
    pictures: Callable[[Groups], Sequence[Picture]] = no_pictures
    measure_facts: Callable[[Store, argparse.Namespace], None] = no_facts
    remarks: str = ""

    def path(self, *, quick: bool) -> Path:
        return RESULTS / f"{self.id}{'-quick' if quick else ''}.json"

    def main(self) -> None:
        """Measures what is missing and was chosen, prints, draws, stores."""
        parser = argparse.ArgumentParser(description=self.text, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--quick", action="store_true", help="a small form, under ten minutes on two cores")
        parser.add_argument("--seeds", type=int, help="default: 1 if quick, else 3")
        parser.add_argument("--only", default="", help="cells whose 'setting / seed n' matches this expression")
        parser.add_argument("--data-folder", type=Path, default=SHARED, help="where the npz files of the tasks lie")
        parser.add_argument("--device", default="cpu", help="where the clients train: cpu, cuda")
        parser.add_argument(
            "--take", type=Path, nargs="*", default=[], help="stores measured elsewhere, to take cells of"
        )
        parser.add_argument("--out", type=Path, help=f"default: benchmarks/results/{self.id}[-quick].json")
        given = parser.parse_args()
        given.seeds = given.seeds or (1 if given.quick else 3)
        screen = console()
        store = Store(given.out or self.path(quick=given.quick))
        cells = self.cells(given)
        store.keep_order(cells)
        for path in given.take:
            store.take(path, cells)
        self.measure_facts(store, given)
        measure([cell for cell in cells if re.search(given.only, cell.key)], store, screen, given.device)
        for table in self.tables(store):
            table.show(screen)
        for path in self.draw(store):
            screen.print(f"drawn: {path}")
        screen.print(f"written: {store.path}")

    def pictured(self, store: Store, folder: Path | None = None) -> list[tuple[Picture, Path]]:
        """Each picture that has something to show, and its file: beside the results or in `folder`."""
        folder = folder or store.path.parent
        shown = [one for one in self.pictures(store.groups()) if one.groups or one.points]
        return [(one, folder / f"{store.path.stem}{one.name}.png") for one in shown]

    def draw(self, store: Store, folder: Path | None = None) -> list[Path]:
        """Draws them; their files."""
        from benchmarks.pictures import fronts, scatter

        found = self.pictured(store, folder)
        for picture, path in found:
            if picture.groups:
                fronts(picture.groups, picture.title, path)
            else:
                scatter(picture.points, picture.title, picture.xlabel, path)
        return [path for _, path in found]
