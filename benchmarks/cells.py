"""Cells of an experiment: runs over the real service, and where their data and results lie."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from thinwire.operator.fleet import Fleet
from thinwire.protocol.settings import RunSettings

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
"""Where `--data-folder` points to unless told otherwise."""
SAID = frozenset({"clients", "task", "split", "seed", "link"})
FLOATS = {"train": {"up": "cast(f16), byte_shuffle(2), zstd", "down": "byte_shuffle, zstd"}}
"""The chains of updates that were the defaults when most cells were measured: 16-bit floats up, exact ones down."""
RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True)
class Cell:
    """One run. `name`: of the setting, alike over seeds; `run`: of `RunSettings`, without name, seed and cohort.
    `own_first`: clients make the run's first model, where the others download it, as one that has been trained before
    would have to be. `environment`: what the fleet's task file reads there. `played`: all clients in one process,
    without a network; bytes are those of the codecs, and framing as it was measured.
    """

    name: str
    fleet: Fleet
    run: Mapping[str, Any]
    own_first: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    played: bool = False

    @property
    def key(self) -> str:
        return f"{self.name} / seed {self.fleet.seed}"

    @property
    def definition(self) -> str:
        """Changes whenever the cell would give another result. Where the data lie, and where they are trained on, is
        no part of it.
        """
        parts = [chosen(self.fleet), self.run, *(["own first"] if self.own_first else [])]
        parts += [*self.environment, *(["played"] if self.played else [])]
        text = json.dumps(parts, sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def settings(self, index: int) -> RunSettings:
        return RunSettings.model_validate(
            {"name": f"cell-{index}", "seed": self.fleet.seed, "cohort": self.fleet.clients, **self.run}
        )


def chosen(fleet: Fleet) -> dict[str, Any]:
    """What was chosen, the device apart: what every cell says, and the rest where it is not the default."""
    found = {
        one.name: getattr(fleet, one.name)
        for one in fields(fleet)
        if one.name in SAID or getattr(fleet, one.name) != one.default
    }
    found.pop("device", None)
    return {name: value.name if isinstance(value, Path) else value for name, value in found.items()}


def file_of(folder: Path, name: str) -> Path:
    """The data file. Ends the process with a message where it is absent."""
    path = folder / name
    if not path.exists():
        raise SystemExit(f"{name} is not in {folder}: give --data-folder")
    return path
