"""How near an advice comes to the best of the full grid: `python -m benchmarks.advice --write`.

On small tasks of real data (`benchmarks.eight_tasks`), in one process: everything that `thinwire advise` may try, at
every rate that it knows, on all examples and for all rounds: the grid. Then an advice under a budget of minutes, for
the best accuracy of the grid less two points. Both are told by the wire bytes to that target, of a model evaluated as
its clients get it. Seconds of runs count as they were measured when they were played; what the journal holds is
not played again, so an interrupted command goes on. `--tasks a,b`; a task whose data are absent is left out, and said.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.cells import RESULTS
from benchmarks.eight_tasks import TASKS, SmallTask
from benchmarks.marked import fill
from benchmarks.store import written
from benchmarks.tables import Table
from thinwire.edge_client.settings import SimulateSettings
from thinwire.edge_client.trials import Trials
from thinwire.machine.files import write_atomic
from thinwire.machine.quantities import in_bytes
from thinwire.operator.advise import Goal, advise, value
from thinwire.operator.advise_bytes import Point, points_of
from thinwire.operator.advise_space import RATES, Candidate, coarse_candidates, rate_candidates
from thinwire.operator.console import console
from thinwire.protocol.trials import TrialPlace, TrialRequest, TrialResult

OUT: Final = RESULTS / "advice.json"
JOURNALS: Final = Path("build/advice")
PAGE: Final = Path("docs/choosing.md")
COMMAND: Final = "python -m benchmarks.advice --write"
ROUNDS: Final = 10
LESS: Final = 0.02
"""Below the best of the grid: the target."""
NEAR: Final = 1.1
"""Times the grid's fewest bytes: what an advice may cost and count as near."""


class Played:
    """Runs of one task in this process, as `thinwire.operator.advise` wants them; `spent_s` is of those that were asked
    for here, whoever had them played. `journal`: holds what was played.
    """

    def __init__(self, task: SmallTask, journal: Path) -> None:
        self._task, self._journal = task, journal
        self._trials: Trials | None = None
        self._asked: dict[str, float] = {}
        lines = journal.read_text().splitlines() if journal.exists() else []
        self._known = {key: TrialResult.model_validate(result) for key, result in map(json.loads, lines)}

    @property
    def spent_s(self) -> float:
        return sum(self._asked.values())

    def begin(self) -> TrialPlace:
        return self._started().place()

    def play(self, request: TrialRequest) -> TrialResult:
        """What comes of this run."""
        key = request.model_dump_json(exclude_defaults=True)
        if key not in self._known:
            self._known[key] = self._started().play(request)
            with self._journal.open("a") as file:
                file.write(json.dumps([key, self._known[key].model_dump()]) + "\n")
        self._asked[key] = self._known[key].seconds
        return self._known[key]

    def _started(self) -> Trials:
        if self._trials is None:
            options = SimulateSettings(task="", clients=self._task.clients, split=self._task.split)
            self._trials = Trials(options, self._task.problem())
        return self._trials


@dataclass(frozen=True, slots=True)
class Compared:
    """`grid`: how many runs it has, of which `diverged` ended in no number; `fewest`, `advised`: wire bytes to the
    target, None: never; `seconds`: of the grid's runs, and of those that the advice asked for.
    """

    task: str
    measure: str
    target: float
    grid: int
    diverged: int
    best: str
    fewest: int
    advice: str
    advised: int | None
    grid_seconds: float
    seconds: float


def grid() -> Iterator[Candidate]:
    """Every method and chain at every rate, each once."""
    seen: set[str] = set()
    for lr, steps in RATES:
        for one in coarse_candidates([{"lr": lr, **steps}]):
            if one.name not in seen:
                seen.add(one.name)
                yield one
    yield from rate_candidates()


def compared(task: SmallTask, journal: Path, minutes: float, told: Any) -> Compared:
    """Plays the grid, then the advice."""
    whole = Played(task, journal)
    place, found = whole.begin(), dict[str, Sequence[Point]]()
    candidates = list(grid())
    for number, one in enumerate(candidates, 1):
        told(f"{task.name}: {number} of {len(candidates)}: {one.name}")
        result = whole.play(TrialRequest(run=one.made(ROUNDS, place.clients, 0)))
        points = points_of(result, place)
        if result.outcome == "completed" and len(points) > 1:
            found[one.name] = points
    measure = next(name for name in (task.measure, "loss") if name in next(iter(found.values()))[0].scores)
    best = max(value(points[-1].scores, measure) for points in found.values())
    target = best - LESS
    costs = {name: cost for name, points in found.items() if (cost := bytes_to(points, measure, target)) is not None}
    cheapest = min(costs, key=lambda name: costs[name])
    player = Played(task, journal)
    shown = abs(target) if measure == "loss" else target
    advice = advise(player, Goal(ROUNDS, target=shown), 0, 60 * minutes, lambda name, _: told(f"{task.name}: {name}"))
    chosen = advice.chosen
    advised = None if chosen is None else bytes_to(chosen.points, measure, target)
    return Compared(
        task.name, measure, shown, len(candidates), len(candidates) - len(found), cheapest, costs[cheapest],
        "none" if chosen is None else chosen.candidate.name, advised, round(whole.spent_s), round(player.spent_s),
    )  # fmt: skip


def bytes_to(points: Sequence[Point], measure: str, target: float) -> int | None:
    """Of the first of these points that reaches it."""
    return next((one.wire for one in points if one.rounds and value(one.scores, measure) >= target), None)


def table(held: Mapping[str, Mapping[str, Any]]) -> Table:
    """A row for each task."""
    rows = []
    for one in (Compared(**held[name]) for name in TASKS if name in held):
        part = "never" if one.advised is None else f"{one.advised / one.fewest:.2f}"
        near = "yes" if one.advised is not None and one.advised <= NEAR * one.fewest else "no"
        times = f"{one.seconds:.0f} of {one.grid_seconds:.0f} s"
        grid_cost = f"{in_bytes(one.fewest)}: {one.best}"
        advised = "never" if one.advised is None else f"{in_bytes(one.advised)}: {one.advice}"
        rows.append((one.task, f"{one.measure} {one.target:.3f}", grid_cost, advised, part, near, times))
    columns = ("task", "target", "best of the grid", "advised", "of its bytes", "within 10 %", "played")
    return Table("an advice beside the full grid", columns, rows)


def main() -> None:
    """Plays what is missing, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--minutes", type=float, default=2.0, help="of an advice")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    screen = console()
    JOURNALS.mkdir(parents=True, exist_ok=True)
    held: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    for name in given.tasks.split(","):
        if not TASKS[name].is_there:
            screen.print(f"{name}: {TASKS[name].file} is not there")
        elif name not in held:
            told = lambda words: screen.print(words, style="dim")  # noqa: E731
            held[name] = asdict(compared(TASKS[name], JOURNALS / f"{name}.jsonl", given.minutes, told))
            write_atomic(given.out, written(held).encode(), fsync=False, mode=0o644)
    made = table(held)
    made.show(screen)
    if given.write:
        fill(PAGE, COMMAND, made.markdown().strip())


if __name__ == "__main__":
    main()
