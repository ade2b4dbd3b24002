"""The JSON file of an experiment: every cell is stored as soon as it is over, with the machine that ran it.

A cell that the file holds already, with the same definition, is not run again: an experiment of hours may be
interrupted and goes on where it was. Every figure comes from the coordinator's ledger and from what clients measured.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.cells import Cell, chosen
from benchmarks.outcomes import Outcome
from thinwire.machine.files import write_atomic
from thinwire.operator.result import Result
from thinwire.protocol.messages import ExchangeMetrics


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
        self._write()

    def put(self, cell: Cell, result: Result, device: str) -> None:
        """Of a run over the service. `device`: on which the clients trained."""
        found = {
            "outcome": result.view.outcome or result.view.state,
            "reason": result.view.reason,
            "seconds": round(result.seconds, 1),
            "parameters": result.view.parameters,
            "model_bytes": None if result.model is None else result.model.stat().st_size,
        }
        self.keep(cell, found, result.exchanges, device)

    def keep(self, cell: Cell, found: Mapping[str, Any], exchanges: Iterable[ExchangeMetrics], device: str) -> None:
        """Written at once. `found`: what came of it beside its exchanges."""
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
            **found,
            "fleet": chosen(cell.fleet),
            "settings": dict(cell.run),
            "exchanges": [_rounded(one.model_dump(mode="json")) for one in exchanges],
        }
        self._write()

    def take(self, path: Path, cells: Iterable[Cell]) -> None:
        """Those of the cells that another store holds, measured on another machine, say."""
        other = Store(path)
        self._held["cells"] |= {cell.key: other.cells[cell.key] for cell in cells if other.outcome(cell) is not None}
        self._write()

    def put_facts(self, name: str, facts: Any) -> None:
        """Figures beside the cells."""
        self._held.setdefault("facts", {})[name] = facts
        self._write()

    def facts(self, name: str) -> Any:
        return self._held.get("facts", {}).get(name)

    def _write(self) -> None:
        write_atomic(self.path, written(self._held).encode(), fsync=False, mode=0o644)


def written(held: Mapping[str, Mapping[str, Any] | Sequence[Any]]) -> str:
    """JSON with a line for each cell, and for each entry of what else is held. Commas begin lines: one more cell is a
    difference of one line.
    """
    parts = []
    for name, entries in held.items():
        if isinstance(entries, Mapping):
            lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entries.items()]
            begins, ends = "{", "}"
        else:
            lines = [json.dumps(value) for value in entries]
            begins, ends = "[", "]"
        inner = "\n,".join(lines)
        parts.append(f"{json.dumps(name)}: {begins}\n {inner}\n{ends}")
    return "{" + "\n,".join(parts) + "}\n"


def _rounded(exchange: dict[str, Any]) -> dict[str, Any]:
    metrics = {name: round(value, 6) for name, value in exchange["metrics"].items()}
    return exchange | {"metrics": metrics, "seconds": round(exchange["seconds"], 2)}
