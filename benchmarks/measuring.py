"""Runs the cells that a store lacks, over real processes; or plays them, where that is what they say."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.cells import Cell
from benchmarks.playing import play
from benchmarks.store import Store
from thinwire.methods.rounds import Round
from thinwire.operator.fleet import Fleet
from thinwire.operator.lab import ENVIRONMENT, Lab
from thinwire.operator.result import Result, result_of
from thinwire.protocol.messages import RunView


def measure(cells: Sequence[Cell], store: Store, screen: Console, device: str = "cpu") -> None:
    """Runs what the store lacks; cells of one fleet share its processes, one after the other."""
    missing = [cell for cell in cells if store.outcome(cell) is None]
    if len(missing) < len(cells):
        screen.print(f"{len(cells) - len(missing)} of {len(cells)} cells are in {store.path.name} already", style="dim")
    for cell in play([cell for cell in missing if cell.played], store, device):
        screen.print(_line(cell, store))
    missing = [cell for cell in missing if not cell.played]
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=40), TextColumn("{task.fields[state]}"))
    with Progress(*columns, TimeElapsedColumn(), console=screen) as bar:
        task = bar.add_task("starting", total=sum(int(cell.run["rounds"]) for cell in missing), state="")
        done = 0
        for alike in dict.fromkeys(_processes(cell) for cell in missing):
            group = [cell for cell in missing if _processes(cell) == alike]

            def step(view: RunView, rounds: list[Round], *, group: Sequence[Cell] = group) -> None:
                cell = group[int(view.name.removeprefix("cell-"))]
                round_ = rounds[-1].round
                bar.update(task, description=cell.key, completed=done + round_, state=f"{round_}/{view.rounds} rounds")

            def over(cell: Cell, result: Result) -> None:
                nonlocal done
                done += int(cell.run["rounds"])
                store.put(cell, result, device)
                screen.print(_line(cell, store))

            _serve(group, device, step, over)


def _processes(cell: Cell) -> tuple[Fleet, bool, tuple[tuple[str, str], ...]]:
    """Cells that are alike in these are served by the same ones."""
    return cell.fleet, cell.own_first, cell.environment


def _line(cell: Cell, store: Store) -> str:
    found = store.outcome(cell)
    assert found is not None
    cost = f"{found.uplink / 1e6:.3f} MB up, {found.downlink / 1e6:.3f} MB down"
    return f"{cell.key}: {found.plain['outcome']}, accuracy {found.accuracy:.4f}, {cost}, {found.plain['seconds']} s"


def _serve(
    cells: Sequence[Cell],
    device: str,
    step: Callable[[RunView, list[Round]], None],
    over: Callable[[Cell, Result], None],
) -> None:
    fleet, own_first, environment = _processes(cells[0])
    fleet, given = replace(fleet, device=device), {**ENVIRONMENT, **dict(environment)}
    with tempfile.TemporaryDirectory(prefix="thinwire-cells-") as name, Lab(Path(name), environment=given) as lab:
        lab.serve()
        model = lab.store(lab.first_model_of(fleet))
        views = [lab.park_run(model, cell.settings(index)) for index, cell in enumerate(cells)]
        clients = lab.join_fleet(fleet, [] if own_first else ["--no-own-first"])
        for cell, view in zip(cells, views, strict=True):
            began = time.monotonic()
            ended = lab.play(view, step)
            seconds = time.monotonic() - began
            over(cell, result_of(lab.operator, ended, lab.folder / f"{view.name}.safetensors", seconds=seconds))
        lab.finish(clients)
