"""Cells of an experiment: runs over the real service, each stored in a JSON file as soon as it is over.

A cell that the file holds already, with the same definition, is not run again: an experiment of hours may be
interrupted and goes on where it was. Every figure comes from the coordinator's ledger and from what clients measured.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from thinwire.coordinator.console import in_bytes
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
from thinwire.coordinator.operate import Operator
from thinwire.coordinator.processes import Children, finish
from thinwire.coordinator.rounds import Round, accuracy_of, evaluation_of, rounds_of
from thinwire.methods.interface import EVALUATE
from thinwire.protocol.messages import ExchangeMetrics, RunCommand, RunRequest, RunView
from thinwire.protocol.settings import RunSettings

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Where `--data-folder` points to unless told otherwise."""
RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True)
class Cell:
    """One run. `name`: of the setting, alike over seeds; `run`: of `RunSettings`, without name, seed and cohort."""

    name: str
    fleet: Fleet
    run: Mapping[str, Any]

    @property
    def key(self) -> str:
        return f"{self.name} / seed {self.fleet.seed}"

    @property
    def definition(self) -> str:
        """Changes whenever the cell would give another result. Where the data lie, and where they are trained on, is
        no part of it.
        """
        text = json.dumps([_plain(self.fleet), self.run], sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def settings(self, index: int) -> RunSettings:
        return RunSettings.model_validate(
            {"name": f"cell-{index}", "seed": self.fleet.seed, "cohort": self.fleet.clients, **self.run}
        )


@dataclass(frozen=True)
class Outcome:
    """A stored cell, read back."""

    plain: Mapping[str, Any]

    @cached_property
    def exchanges(self) -> list[ExchangeMetrics]:
        return [ExchangeMetrics.model_validate(one) for one in self.plain["exchanges"]]

    @cached_property
    def rounds(self) -> list[Round]:
        return rounds_of(self.exchanges)

    @property
    def parameters(self) -> int:
        return int(self.plain["parameters"])

    @property
    def accuracy(self) -> float:
        """Of the final model, as the evaluation after the last round found it; NaN where nobody measured it."""
        last = evaluation_of(self.exchanges)
        found = None if last is None else accuracy_of(last.metrics)
        return math.nan if found is None else found

    def metric(self, name: str) -> float:
        """Of the evaluation after the last round."""
        last = evaluation_of(self.exchanges)
        return math.nan if last is None else last.metrics.get(name, math.nan)

    @property
    def best(self) -> float:
        return max((one.accuracy for one in self.rounds if one.accuracy is not None), default=math.nan)

    @property
    def uplink(self) -> int:
        return sum(one.uplink_bytes for one in self.rounds)

    @property
    def downlink(self) -> int:
        return sum(one.downlink_bytes for one in self.rounds)

    @property
    def wire(self) -> int:
        return self.uplink + self.downlink

    def rate(self, direction: Literal["up", "down"], rounds: slice = slice(None)) -> float:
        """Payload bits per parameter and answer, without framing, over some exchanges of training."""
        trained = [one for one in self.exchanges if one.kind != EVALUATE][rounds]
        sizes = [one.uplink_payload_bytes if direction == "up" else one.downlink_payload_bytes for one in trained]
        return 8 * sum(sizes) / (sum(one.answers for one in trained) * self.parameters)

    @property
    def curve(self) -> list[tuple[int, float]]:
        """Wire bytes of the run when a round's model was complete, and the accuracy of that model."""
        return [(one.total_bytes, one.accuracy) for one in self.rounds if one.accuracy is not None]

    def bytes_to(self, accuracy: float) -> int | None:
        """Wire bytes until the first model of that accuracy; None if there was none."""
        return next((cost for cost, reached in self.curve if reached >= accuracy), None)


class Store:
    """The JSON file of an experiment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._held: dict[str, Any] = {"cells": {}}
        if path.exists():
            self._held = json.loads(path.read_text())

    @property
    def cells(self) -> Mapping[str, Any]:
        """By setting and seed."""
        found: dict[str, Any] = self._held["cells"]
        return found

    @property
    def settings(self) -> Sequence[str]:
        """All that the experiment defines, measured or not."""
        found: list[str] = self._held.get("order", [])
        return found

    def outcome(self, cell: Cell) -> Outcome | None:
        """None: not run yet, or run under another definition."""
        found = self._held["cells"].get(cell.key)
        return Outcome(found) if found is not None and found["definition"] == cell.definition else None

    def groups(self) -> dict[str, list[Outcome]]:
        """Setting -> the outcomes of its seeds, in the order in which the experiment lists them."""
        found: dict[str, list[Outcome]] = {name: [] for name in self._held.get("order", ())}
        for key, plain in self._held["cells"].items():
            found.setdefault(key.rpartition(" / seed ")[0], []).append(Outcome(plain))
        return {name: outcomes for name, outcomes in found.items() if outcomes}

    def keep_order(self, cells: Iterable[Cell]) -> None:
        """Remembers the order of settings, and forgets cells that the experiment defines in another way now."""
        wanted = {cell.key: cell.definition for cell in cells}
        held = self._held["cells"]
        stale = [key for key in held if key in wanted and held[key]["definition"] != wanted[key]]
        for key in stale:
            del held[key]
        self._held["order"] = list(dict.fromkeys(cell.name for cell in cells))
        self.write(self._held)

    def put(self, cell: Cell, result: Result, device: str) -> None:
        """Written at once. `device`: on which the clients trained."""
        self._held["cells"][cell.key] = {
            "definition": cell.definition,
            "measured": datetime.now(UTC).date().isoformat(),
            "machine": {
                "processor": platform.machine(),
                "cores": os.cpu_count(),
                "device": device,
                "python": platform.python_version(),
                "torch": version("torch"),
                "numpy": version("numpy"),
                "thinwire": version("thinwire"),
            },
            "outcome": result.view.outcome or result.view.state,
            "reason": result.view.reason,
            "seconds": round(result.seconds, 1),
            "parameters": result.view.parameters,
            "model_bytes": None if result.model is None else result.model.stat().st_size,
            "fleet": _plain(cell.fleet),
            "settings": dict(cell.run),
            "exchanges": [_rounded(one.model_dump(mode="json")) for one in result.exchanges],
        }
        self.write(self._held)

    def take(self, path: Path, cells: Iterable[Cell]) -> None:
        """Those of the cells that another store holds, measured on another machine, say."""
        other = Store(path)
        self._held["cells"] |= {cell.key: other.cells[cell.key] for cell in cells if other.outcome(cell) is not None}
        self.write(self._held)

    def put_facts(self, name: str, facts: Any) -> None:
        """Figures beside the cells."""
        self._held.setdefault("facts", {})[name] = facts
        self.write(self._held)

    def facts(self, name: str) -> Any:
        return self._held.get("facts", {}).get(name)

    def write(self, held: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.path.with_suffix(".tmp")
        beside.write_text(json.dumps(held, indent=1) + "\n")
        beside.replace(self.path)


def _plain(fleet: Fleet) -> dict[str, Any]:
    """What was chosen, without what was left at its default and without the device."""
    chosen = {one.name: getattr(fleet, one.name) for one in fields(fleet) if getattr(fleet, one.name) != one.default}
    chosen.pop("device", None)
    return {name: value.name if isinstance(value, Path) else value for name, value in chosen.items()}


def _rounded(exchange: dict[str, Any]) -> dict[str, Any]:
    metrics = {name: round(value, 6) for name, value in exchange["metrics"].items()}
    return exchange | {"metrics": metrics, "seconds": round(exchange["seconds"], 2)}


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

            _serve(replace(fleet, device=device), group, step, over)


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


@dataclass(frozen=True, slots=True)
class Mean:
    """Of a figure over seeds; `error`: its standard error, NaN for one seed."""

    value: float
    error: float
    seeds: int

    @staticmethod
    def of(values: Sequence[float]) -> Mean:
        count = len(values)
        mean = sum(values) / count if count else math.nan
        if count < 2:
            return Mean(mean, math.nan, count)
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
        return Mean(mean, spread / math.sqrt(count), count)

    def __str__(self) -> str:
        return f"{self.value:.4f}" if math.isnan(self.error) else f"{self.value:.4f} ± {self.error:.4f}"


def difference(first: Sequence[Outcome], second: Sequence[Outcome]) -> Mean:
    """Of final accuracies, seed by seed."""
    return Mean.of([a.accuracy - b.accuracy for a, b in zip(first, second, strict=False)])


def not_worse(gap: Mean) -> bool:
    """By not more than one point, or two standard errors where they are more."""
    return gap.value >= -max(0.01, 0.0 if math.isnan(gap.error) else 2 * gap.error)


def file_of(folder: Path, name: str) -> Path:
    """The data file. Ends the process with a message where it is absent."""
    path = folder / name
    if not path.exists():
        raise SystemExit(f"{name} is not in {folder}: give --data-folder")
    return path


def sized(outcomes: Sequence[Outcome]) -> tuple[str, str]:
    """Mean wire bytes up and down, as text."""
    return (
        in_bytes(round(Mean.of([one.uplink for one in outcomes]).value)),
        in_bytes(round(Mean.of([one.downlink for one in outcomes]).value)),
    )
