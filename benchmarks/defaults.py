"""Whether each method learns with its defaults on eight small tasks of real data: `python -m benchmarks.defaults`.

Ten rounds of all clients (Dirichlet .3, or what a task says), played in one process. Beside the defaults of each
method: fedavg at the rates of a small grid, and the best of them. fd_alu has no global model, and is left out.
`--tasks a,b`; a task whose data are absent is left out, and said.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.eight_tasks import TASKS, SmallTask
from thinwire.codecs import CodecError
from thinwire.machine.quantities import in_bytes
from thinwire.methods.client_half import client_half
from thinwire.methods.registry import find_method
from thinwire.methods.simulation import Participant, simulate
from thinwire.operator.console import console
from thinwire.operator.sheet import Sheet
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

ROUNDS: Final = 10
METHODS: Final = ("fedavg", "feddlr", "progfed", "feddkd", "sparse_masks", "seed_scalars")
RATES: Final = (0.003, 0.01, 0.03, 0.1)
OUT: Final = Path(__file__).with_name("defaults.json")


@dataclass(frozen=True, slots=True)
class Outcome:
    """`before`, `after`: the score at the start and after the last round; None where the run did not end."""

    task: str
    settings: str
    before: float | None
    after: float | None
    payload_bytes: int
    problem: str = ""


def outcome(task: SmallTask, method: str, settings: Mapping[str, Any], words: str, rounds: int = ROUNDS) -> Outcome:
    """Of one run."""
    learners = task.learners()
    half = client_half(method)(find_method(method).settings.model_validate(dict(settings)))
    first = next(iter(learners.values())).first_arrays()
    run = RunSettings(method=method, settings=dict(settings), rounds=rounds, cohort=task.clients)
    try:
        done = simulate(run, first, {name: Participant(half, learner) for name, learner in learners.items()})
        scores = [task.score(one.mean) for one in (done.exchanges[0], done.exchanges[-1])]
    except (CodecError, ProblemError) as error:
        return Outcome(task.name, words, None, None, 0, str(error))
    size = sum(one.uplink_bytes + one.downlink_bytes for one in done.exchanges)
    return Outcome(task.name, words, scores[0], scores[1], size)


def outcomes(task: SmallTask) -> Iterator[Outcome]:
    """Of every method's defaults, then of the grid."""
    for method in METHODS:
        yield outcome(task, method, {}, f"{method}, defaults")
    for lr in RATES:
        yield outcome(task, "fedavg", {"lr": lr}, f"fedavg, lr {lr:g}")


def table(found: list[Outcome]) -> Sheet:
    """A row for each task: what the measure was before, after each method's defaults, and the best of the grid."""
    made = Sheet("score after ten rounds", ("task", "before", *METHODS, "best of the grid", "bytes"), text=("task",))
    for task in dict.fromkeys(one.task for one in found):
        mine = {one.settings: one for one in found if one.task == task}
        grid = [one.after for name, one in mine.items() if "lr" in name and one.after is not None]
        defaults = [mine[f"{method}, defaults"] for method in METHODS]
        cells = [_cell(defaults[0].before), *(_cell(one.after) for one in defaults), _cell(max(grid, default=None))]
        made.add_row(task, *cells, in_bytes(defaults[0].payload_bytes))
    return made


def _cell(score: float | None) -> str:
    return "-" if score is None else f"{score:.3f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    screen, found = console(), list[Outcome]()
    for name in arguments.tasks.split(","):
        if not TASKS[name].is_there:
            screen.print(f"{name}: {TASKS[name].file} is not there")
            continue
        for one in outcomes(TASKS[name]):
            screen.print(
                f"{one.task}: {one.settings}: {_cell(one.before)} -> {_cell(one.after)} {one.problem}", style="dim"
            )
            found.append(one)
            arguments.out.write_text(json.dumps([asdict(each) for each in found], indent=1) + "\n")
    screen.print(table(found))


if __name__ == "__main__":
    main()
