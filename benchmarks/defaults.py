"""Whether each method learns with its defaults on eight small tasks of real data: `python -m benchmarks.defaults`.

Ten rounds of all clients (Dirichlet .3, or what a task says), played in one process. Beside the defaults of each
method: a small grid of its rates, with gradients as long as they are and clipped at 1, of batches and optimisers, and
the best of it. fd_alu has no global model, and is left out. `--tasks a,b`, `--methods a,b`; a task whose data are
absent is left out, and said. A run that the file holds, with the same settings and chains in force, is not played
again; `--write` puts the tables into docs/choosing.md.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.cells import RESULTS
from benchmarks.eight_tasks import TASKS, SmallTask
from benchmarks.marked import fill
from benchmarks.store import written
from benchmarks.tables import Table
from thinwire.codecs import CodecError
from thinwire.machine.files import write_atomic
from thinwire.machine.quantities import in_bytes
from thinwire.methods.client_half import client_half
from thinwire.methods.definition import define
from thinwire.methods.registry import find_method
from thinwire.methods.simulation import Participant, simulate
from thinwire.operator.console import console
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

ROUNDS: Final = 10


def _clipped(*rates: float) -> tuple[dict[str, Any], ...]:
    return tuple({"lr": rate, "clip-norm": 1.0} for rate in rates)


def _rates(*rates: float) -> tuple[dict[str, Any], ...]:
    return tuple({"lr": rate} for rate in rates)


GRIDS: Final[Mapping[str, Sequence[Mapping[str, Any]]]] = {
    "fedavg": (
        {"lr": 0.01, "clip-norm": 1.0, "local-optimizer": "adam"},
        {"lr": 0.003, "local-optimizer": "adam"},
        {"lr": 0.2, "clip-norm": 1.0, "lr-schedule": "cosine"},
        {"lr": 0.01, "local-optimizer": "adam"},
        {"lr": 0.02, "local-optimizer": "adam"},
        {"lr": 0.01, "local-optimizer": "adam", "lr-schedule": "cosine"},
        *_clipped(0.1),
        {"lr": 0.5, "clip-norm": 1.0, "lr-schedule": "cosine"},
        {"lr": 0.1, "lr-schedule": "cosine"},
        *_clipped(0.2),
        *_rates(0.05),
        *_clipped(0.05),
        *_rates(0.1, 0.01),
        {"lr": 0.1, "clip-norm": 1.0, "batch-size": 32},
    ),
    "feddlr": (*_clipped(0.1, 0.05), *_rates(0.05)),
    "progfed": (*_clipped(0.1, 0.2), *_rates(0.05)),
    "feddkd": (*_clipped(0.1, 0.05), *_rates(0.05)),
    "sparse_masks": _rates(0.03, 0.3),
    "seed_scalars": _rates(0.003, 0.03),
}
"""By method: what is tried beside its defaults."""
DEFAULTS: Final = "defaults"
OUT: Final = RESULTS / "defaults.json"
PAGE: Final = Path("docs/choosing.md")
NEAR: Final = 0.02
"""How far from the best of a grid defaults may end and count as near."""
COMMAND: Final = "python -m benchmarks.defaults --write"


@dataclass(frozen=True, slots=True)
class Outcome:
    """`before`, `after`: the score at the start and after the last round; None where the run did not end. `in_force`: a
    digest of the settings and chains that it had, defaults included.
    """

    task: str
    settings: str
    before: float | None
    after: float | None
    payload_bytes: int
    problem: str = ""
    in_force: str = ""


def outcome(task: SmallTask, method: str, settings: Mapping[str, Any], words: str, rounds: int = ROUNDS) -> Outcome:
    """Of one run."""
    run = _run(task, method, settings, rounds)
    force = in_force(run)
    learners = task.learners()
    half = client_half(method)(find_method(method).settings.model_validate(dict(settings)))
    first = next(iter(learners.values())).first_arrays()
    try:
        done = simulate(run, first, {name: Participant(half, learner) for name, learner in learners.items()})
        scores = [task.score(one.mean) for one in (done.exchanges[0], done.exchanges[-1])]
    except (CodecError, ProblemError) as error:
        return Outcome(task.name, words, None, None, 0, str(error), force)
    size = sum(one.uplink_bytes + one.downlink_bytes for one in done.exchanges)
    return Outcome(task.name, words, scores[0], scores[1], size, in_force=force)


def _run(task: SmallTask, method: str, settings: Mapping[str, Any], rounds: int) -> RunSettings:
    return RunSettings(method=method, settings=dict(settings), rounds=rounds, cohort=task.clients)


def in_force(run: RunSettings) -> str:
    """Changes whenever a run of these settings would be another one, by other defaults too."""
    made = define("run", run)
    chains = {kind: str(made.chains(kind)) for kind in made.method.chains(made.settings)}
    plain = [run.method, made.settings.model_dump(mode="json"), chains, run.rounds, run.cohort]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Wanted:
    """One run that the table needs."""

    task: SmallTask
    method: str
    settings: Mapping[str, Any]

    @property
    def words(self) -> str:
        return f"{self.method}, " + (", ".join(f"{name} {value}" for name, value in self.settings.items()) or DEFAULTS)

    @property
    def key(self) -> tuple[str, str]:
        return self.task.name, in_force(_run(self.task, self.method, self.settings, ROUNDS))

    def play(self) -> Outcome:
        return outcome(self.task, self.method, self.settings, self.words)


def read(path: Path) -> dict[tuple[str, str], Outcome]:
    """What the file holds, by task and by what was in force."""
    rows = json.loads(path.read_text())["runs"] if path.exists() else []
    return {(one["task"], one["in_force"]): Outcome(**one) for one in rows}


def wanted(tasks: Sequence[str], methods: Sequence[str]) -> list[Wanted]:
    """Every method's defaults, then its grid; of all tasks before the next setting."""
    settings = [(method, one) for method in methods for one in ({}, *GRIDS[method])]
    return [Wanted(TASKS[name], method, one) for method, one in settings for name in tasks]


def table(held: Mapping[tuple[str, str], Outcome], method: str) -> Table:
    """A row for each task: the measure before, after the defaults, and after the best of what was tried beside them."""
    rows = []
    for name in TASKS:
        found = [(one, held[one.key]) for one in wanted([name], [method]) if one.key in held]
        ended = [(done.after, one.words) for one, done in found if done.after is not None]
        defaults = next((done for one, done in found if not one.settings), None)
        if not ended or defaults is None:
            continue
        after, words = max(ended, key=lambda pair: pair[0])
        near = "no" if defaults.after is None or defaults.after < after - NEAR else "yes"
        if near == "yes" and 2 * len(found) < len(GRIDS[method]):
            near = "open"  # what was not played may be better
        scores = [_number(score) for score in (defaults.before, defaults.after, after)]
        size = in_bytes(defaults.payload_bytes)
        rows.append((name, *scores, words.partition(", ")[2], f"{len(found)} of {len(GRIDS[method]) + 1}", near, size))
    columns = ("task", "before", DEFAULTS, "best", "of", "tried", "near", "payload")
    return Table(f"{method}, ten rounds", columns, rows)


def _number(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def main() -> None:
    """Plays what is missing, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--methods", default=",".join(GRIDS))
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    screen, tasks, methods = console(), given.tasks.split(","), given.methods.split(",")
    for name in [name for name in tasks if not TASKS[name].is_there]:
        screen.print(f"{name}: {TASKS[name].file} is not there")
        tasks.remove(name)
    held = read(given.out)
    for one in wanted(tasks, methods):
        if one.key not in held:
            found = held[one.key] = one.play()
            line = f"{found.task}: {one.words}: {_number(found.before)} -> {_number(found.after)} {found.problem}"
            screen.print(line, style="dim")
            rows = sorted((asdict(each) for each in held.values()), key=lambda row: (row["task"], row["settings"]))
            write_atomic(given.out, written({"runs": rows}).encode(), fsync=False, mode=0o644)
    pages = [made for method in methods if (made := table(held, method)).rows]
    for made in pages:
        made.show(screen)
    if given.write:
        fill(PAGE, COMMAND, "\n".join(made.markdown() for made in pages).strip())


if __name__ == "__main__":
    main()
