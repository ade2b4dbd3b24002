"""Writes docs/results.md, its pictures and what the pages of methods say of them: `python -m benchmarks.results`.

Of every experiment the full form where its file has cells, otherwise the quick one, and each says which it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.experiment import Experiment
from benchmarks.marked import fill
from benchmarks.store import Store
from thinwire.operator.console import console

EXPERIMENTS = ("front", "sparse_masks", "progfed", "feddlr", "feddkd", "fd_alu", "pretrained")
PAGE = Path("docs/results.md")
IMAGES = Path("docs/images/results")
COMMAND = "python -m benchmarks.results"
METHODS = Path("docs/methods")
OF_SEVERAL = "pretrained"
"""Is of adapters under several methods, and on the page of none."""
ON_PAGE = {name: name for name in EXPERIMENTS if name != OF_SEVERAL} | {"front": "fedavg"}
"""Experiment -> the page of a method that shows it."""
HEAD = """# Results

What each method costs and what it gives, measured: every run is real processes on one machine over HTTP, every byte is
from the coordinator's ledger, framing included, both directions, all clients; where a section says that it was played
in one process, payloads are those of the codecs, and framing as measured. This page is written by
`python -m benchmarks.results` from the files in `benchmarks/results/`; the command above each table measures it again.
With `--quick` each takes between two and nine minutes on two cores.
Every run's first model is downloaded here, as it must be where it has been trained before; where it is a fresh one,
clients make it themselves, and that broadcast costs nothing. A mean over seeds stands with its standard error. "Not
worse" means by not more than one point, or two standard errors where they are more.
"""


def find(name: str) -> Experiment:
    """The experiment of this module."""
    found: Experiment = import_module(f"benchmarks.{name}").EXPERIMENT
    return found


def measured() -> Iterator[tuple[Experiment, Store, bool]]:
    """The experiments that have been run, and whether in the quick form."""
    for name in EXPERIMENTS:
        experiment = find(name)
        for quick in (False, True):
            store = Store(experiment.path(quick=quick))
            if store.groups():
                yield experiment, store, quick
                break


def section(experiment: Experiment, store: Store, *, quick: bool) -> str:
    """What was measured, when, on what; tables; pictures."""
    cells = store.cells
    command = f"python -m benchmarks.{experiment.id}{' --quick' if quick else ''}"
    lines = [
        f"## {experiment.id}",
        experiment.text.strip().replace(f": `python -m benchmarks.{experiment.id}`", ""),
        f"`{command}`: {len(store.groups())} of its {len(store.settings)} settings, {len(cells)} runs: "
        f"{'; '.join(spent(cells.values()))}.",
    ]
    if remarks := experiment.remarks:
        lines.append(remarks)
    lines += [table.markdown() for table in experiment.tables(store)]
    experiment.draw(store, IMAGES)
    lines += _images(experiment, store, "images/results")
    return "\n\n".join(lines)


def on_method_page(experiment: Experiment, store: Store) -> str:
    """What the page of a method says of its experiment."""
    link = f"Settings, tables, aims: [results](../results.md#{experiment.id}), `python -m benchmarks.{experiment.id}`."
    return "\n\n".join(
        [
            experiment.remarks.removeprefix("What the figures say. "),
            *_images(experiment, store, "../images/results"),
            link,
        ]
    )


def _images(experiment: Experiment, store: Store, folder: str) -> list[str]:
    return [f"![{picture.title}]({folder}/{path.name})" for picture, path in experiment.pictured(store, IMAGES)]


def spent(cells: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """For each machine: hours of runs, cores, days, versions."""
    machines: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        of = cell["machine"]
        trained = "" if of.get("device", "cpu") == "cpu" else f", trained on {of['device']}"
        machine = f"{of['cores']} cores ({of['processor']}{trained}, torch {of['torch']}, numpy {of['numpy']})"
        machines.setdefault(machine, []).append(cell)
    for machine, found in machines.items():
        days = sorted({cell["measured"] for cell in found})
        hours = sum(cell["seconds"] for cell in found) / 3600
        yield f"{hours:.1f} h on {machine}, {days[0]}{f' to {days[-1]}' if len(days) > 1 else ''}"


def missing() -> Iterator[str]:
    """A sentence on the experiments that nobody has run, if there are any."""
    found = [name for name in EXPERIMENTS if not any(Store(find(name).path(quick=q)).groups() for q in (False, True))]
    if found:
        commands = ", ".join(f"`python -m benchmarks.{name}`" for name in found)
        yield f"Defined and not yet run to its end: {commands}."


def main() -> None:
    """Writes the pages."""
    sections = []
    for experiment, store, quick in measured():
        sections.append(section(experiment, store, quick=quick))
        if experiment.id in ON_PAGE:
            fill(METHODS / f"{ON_PAGE[experiment.id]}.md", COMMAND, on_method_page(experiment, store))
    PAGE.write_text("\n\n".join([HEAD.strip(), *missing(), *sections]) + "\n")
    console().print(f"written: {PAGE}")


if __name__ == "__main__":
    main()
