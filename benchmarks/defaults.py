"""Whether each method learns with its defaults on eight small tasks of real data: `python -m benchmarks.defaults`.

Ten rounds of all clients (Dirichlet .3, or what a task says), played in one process. Beside the defaults of each
method: fedavg at the rates of a small grid, and the best of them. fd_alu has no global model, and is left out.
`--tasks a,b`; a task whose data are absent is left out, and said. A run that the file holds, with the same settings and
chains in force, is not played again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.eight_tasks import TASKS, SmallTask
from thinwire.codecs import CodecError
from thinwire.machine.quantities import in_bytes
from thinwire.methods.client_half import client_half
from thinwire.methods.definition import define
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
    plain = [made.settings.model_dump(mode="json"), chains, run.rounds, run.cohort]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:16]


def outcomes(task: SmallTask, held: Sequence[Outcome]) -> Iterator[Outcome]:
    """Of every method's defaults, then of the grid; those that are held as they are."""
    known = {(one.settings, one.in_force): one for one in held if one.task == task.name}
    wanted: list[tuple[str, dict[str, Any], str]] = [(method, {}, f"{method}, defaults") for method in METHODS]
    wanted += [("fedavg", {"lr": lr}, f"fedavg, lr {lr:g}") for lr in RATES]
    for method, settings, words in wanted:
        found = known.get((words, in_force(_run(task, method, settings, ROUNDS))))
        yield found or outcome(task, method, settings, words)


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
    held = [Outcome(**one) for one in json.loads(arguments.out.read_text())] if arguments.out.exists() else []
    others = [one for one in held if one.task not in arguments.tasks.split(",")]
    for name in arguments.tasks.split(","):
        if not TASKS[name].is_there:
            screen.print(f"{name}: {TASKS[name].file} is not there")
            continue
        for one in outcomes(TASKS[name], held):
            screen.print(
                f"{one.task}: {one.settings}: {_cell(one.before)} -> {_cell(one.after)} {one.problem}", style="dim"
            )
            found.append(one)
            arguments.out.write_text(json.dumps([asdict(each) for each in (*others, *found)], indent=1) + "\n")
    screen.print(table([*others, *found]))


if __name__ == "__main__":
    main()
