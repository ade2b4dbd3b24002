"""Runs the cells that a store lacks, over real processes."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.cells import Cell
from benchmarks.store import Store
from thinwire.coordinator.demo import (
    END_TIMEOUT_S,
    Fleet,
    Result,
    first_model,
    follow_run,
    result_of,
    start_clients,
    start_coordinator,
)
from thinwire.operator.client import Operator
from thinwire.operator.processes import Children, finish
from thinwire.operator.rounds import Round
from thinwire.protocol.messages import RunCommand, RunRequest, RunView
from thinwire.protocol.settings import RunSettings


def measure(cells: Sequence[Cell], store: Store, screen: Console, device: str = "cpu") -> None:
    """Runs what the store lacks; cells of one fleet share its processes, one after the other."""
    missing = [cell for cell in cells if store.outcome(cell) is None]
    if len(missing) < len(cells):
        screen.print(f"{len(cells) - len(missing)} of {len(cells)} cells are in {store.path.name} already", style="dim")
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=40), TextColumn("{task.fields[state]}"))
    with Progress(*columns, TimeElapsedColumn(), console=screen) as bar:
        task = bar.add_task("starting", total=sum(int(cell.run["rounds"]) for cell in missing), state="")
        done = 0
        for fleet in dict.fromkeys(cell.fleet for cell in missing):
            group = [cell for cell in missing if cell.fleet == fleet]

            def step(view: RunView, rounds: list[Round], *, group: Sequence[Cell] = group) -> None:
                cell = group[int(view.name.removeprefix("cell-"))]
                round_ = rounds[-1].round
                bar.update(task, description=cell.key, completed=done + round_, state=f"{round_}/{view.rounds} rounds")

            def over(cell: Cell, result: Result) -> None:
                nonlocal done
                done += int(cell.run["rounds"])
                store.put(cell, result, device)
                screen.print(_line(cell, store))

            # The first model is downloaded, as one that has been trained before would have to be.
            _serve(replace(fleet, device=device, own_first=False), group, step, over)


def _line(cell: Cell, store: Store) -> str:
    found = store.outcome(cell)
    assert found is not None
    cost = f"{found.uplink / 1e6:.3f} MB up, {found.downlink / 1e6:.3f} MB down"
    return f"{cell.key}: {found.plain['outcome']}, accuracy {found.accuracy:.4f}, {cost}, {found.plain['seconds']} s"


def _serve(
    fleet: Fleet,
    cells: Sequence[Cell],
    step: Callable[[RunView, list[Round]], None],
    over: Callable[[Cell, Result], None],
) -> None:
    with tempfile.TemporaryDirectory(prefix="thinwire-cells-") as name, Children(Path(name) / "logs") as children:
        folder = Path(name)
        operator = start_coordinator(children, folder, lambda _: None)
        try:
            model = first_model(children, operator, fleet, folder)
            # All but the one that is on wait: clients with a run still to come stay connected.
            views = [_created(operator, cell.settings(index), model) for index, cell in enumerate(cells)]
            clients = start_clients(children, operator, fleet, folder)
            for cell, view in zip(cells, views, strict=True):
                began = time.monotonic()
                operator.ask("POST", f"/v1/runs/{view.id}/resume", RunView, RunCommand())
                ended = follow_run(children, operator, view, step)
                if ended.state == "paused":
                    ended = operator.ask("POST", f"/v1/runs/{view.id}/stop", RunView, RunCommand(open="drop"))
                seconds = time.monotonic() - began
                over(cell, result_of(operator, ended, folder / f"{view.name}.safetensors", {}, seconds))
            for child in clients:
                finish(child, END_TIMEOUT_S)
        finally:
            operator.close()


def _created(operator: Operator, settings: RunSettings, model: bytes) -> RunView:
    view = operator.ask("POST", "/v1/runs", RunView, RunRequest(settings=settings, model=model))
    return operator.ask("POST", f"/v1/runs/{view.id}/pause", RunView, RunCommand(open="drop"))
