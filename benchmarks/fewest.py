"""The chains of the fewest bytes on unlike data: `python -m benchmarks.fewest`.

Images of clothes (ConvNet, Dirichlet .3, 10 clients; as in `front`, and a quarter of it), letters of plays (next
character, each client its own speakers, 8 clients), and questions to a bank (a linear head over hashed words, 10 of 77
intents, 8 clients). Clients make the first model themselves. The runs are played in one process: payloads are those of
the codecs, framing is what a test compares with the ledger of real runs. Kinds of chains at the same training: eight
bits; what was the thinnest before symbols adapted; and `adaptive` ones. For each the bytes to an aim: on clothes .80
and .842 (.70 and .75 with a quarter of them), elsewhere the best that eight bits reach under the same seed less a
point. A run that the file holds is not played again; `--write` puts tables and pictures into docs/choosing.md.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from benchmarks.cells import RESULTS
from benchmarks.eight_tasks import TASKS, SmallTask, built_in
from benchmarks.marked import fill
from benchmarks.outcomes import Mean, Outcome
from benchmarks.pictures import fronts
from benchmarks.store import written
from benchmarks.tables import Table
from thinwire.edge_client.trials import exchange_told
from thinwire.machine.files import write_atomic
from thinwire.machine.quantities import in_bytes
from thinwire.methods.client_half import client_half
from thinwire.methods.registry import find_method
from thinwire.methods.simulation import Exchanged, Participant, simulate
from thinwire.operator.console import console
from thinwire.operator.simulated import exchanges_of
from thinwire.protocol.settings import RunSettings
from thinwire.protocol.trials import TrialExchange, TrialPlace

OUT: Final = RESULTS / "fewest.json"
IMAGES: Final = Path("docs/images/results")
PAGE: Final = Path("docs/choosing.md")
COMMAND: Final = "python -m benchmarks.fewest --write"
Chains = tuple[str, str]


def _adaptive(up: float, down: float) -> Chains:
    return (
        f"quantise(8, per=bundle, spread={up:g}), entropy(adaptive, sampling=True)",
        f"delta, quantise(8, per=bundle, rounding=deadzone, spread={down:g}), entropy(adaptive)",
    )


EIGHT: Final = "8 bits"
CHAINS: Final[Mapping[str, Chains]] = {
    EIGHT: ("quantise(8), entropy", "delta, quantise(8), entropy"),
    "spread 8 up, 3 down": (
        "quantise(8, per=bundle, spread=8), entropy",
        "delta, quantise(8, per=bundle, rounding=nearest, spread=3), entropy",
    ),
    "adaptive, spread 8 up, 3 down": _adaptive(8, 3),
    "adaptive, spread 8 up, 4 down": _adaptive(8, 4),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """A task, and how it is trained: the same for all chains."""

    task: SmallTask
    rounds: int
    settings: Mapping[str, Any]
    title: str
    aims: tuple[float, ...] = ()


def _fashion(name: str, train: int, test: int, words: str, aims: tuple[float, ...]) -> Problem:
    """Fashion-MNIST with so many examples."""
    return Problem(
        SmallTask(
            name, built_in("fashion_mnist", "fashion_mnist.npz", train, test, "cifar_convnet"), 10,
            file="fashion_mnist.npz",
        ),
        8,
        {"epochs": 4, "batch-size": 32, "lr": 0.05, "lr-schedule": "cosine"},
        f"Fashion-MNIST, {words}",
        aims,
    )  # fmt: skip


PROBLEMS: Final[Mapping[str, Problem]] = {
    "fashion_mnist": _fashion("fashion_mnist", 10_000, 3000, "Dirichlet 0.3, 10 clients", (0.80, 0.842)),
    "fashion_mnist_quarter": _fashion("fashion_mnist_quarter", 2500, 1000, "a quarter of the examples", (0.70, 0.75)),
    "shakespeare": Problem(
        SmallTask(
            "shakespeare",
            built_in("text_npz", "shakespeare.npz", 4000, 1000),
            8,
            "natural",
            file="shakespeare.npz",
        ),
        10,
        {"epochs": 2, "batch-size": 16, "lr": 0.1, "lr-schedule": "cosine", "clip-norm": 1.0},
        "Shakespeare's speakers, next character, 8 clients",
    ),
    "banking77": Problem(
        TASKS["banking77"],
        10,
        {"epochs": 4, "batch-size": 8, "lr": 0.1, "lr-schedule": "cosine"},
        "ten intents of banking77, linear head, 8 clients",
    ),
}


def played(problem: Problem, chains: Chains, seed: int) -> dict[str, Any]:
    """One run as `Outcome` reads it."""
    began = time.monotonic()
    learners = problem.task.learners(seed)
    down = chains[1]
    run = RunSettings(
        method="fedavg", settings=dict(problem.settings), rounds=problem.rounds, cohort=problem.task.clients, seed=seed,
        uplink=chains[0], downlink=down, chains={"evaluate": {"down": down}},
    )  # fmt: skip
    half = client_half("fedavg")(find_method("fedavg").settings.model_validate(run.settings))
    first = next(iter(learners.values())).first_arrays()
    participants = {name: Participant(half, learner, own_first=True) for name, learner in learners.items()}
    told: list[TrialExchange] = []
    seen: set[str] = set()

    def step(one: Exchanged) -> None:
        told.append(exchange_told(one, seen))
        seen.update(one.contributors)

    simulate(run, first, participants, step=step)
    parameters = sum(array.size for array in first.values())
    place = TrialPlace(clients=len(learners), examples=0, parameters=parameters, link=None)
    return {
        "settings": run.model_dump(mode="json", exclude_unset=True, by_alias=True),
        "parameters": parameters,
        "seconds": round(time.monotonic() - began, 1),
        "exchanges": [one.model_dump(mode="json") for one in exchanges_of(told, place)],
    }


def table(problem: Problem, groups: Mapping[str, Sequence[Outcome]]) -> Table:
    """A row for each kind of chains: what it comes to, and for how much; to how many seeds' aims where not to all."""
    wanted = [f"to {aim:g}" for aim in problem.aims] or ["to the aim"]
    relative = [one.best - 0.01 for one in groups.get(EIGHT, ())]
    rows = []
    for words, found in groups.items():
        aims = [[aim] * len(found) for aim in problem.aims] or [relative]
        wire = in_bytes(round(Mean.of([one.wire for one in found]).value))
        final = str(Mean.of([one.accuracy for one in found]))
        rows.append((words, str(len(found)), final, wire, *(_reached(found, each) for each in aims)))
    return Table(problem.title, ("chains", "seeds", "final", "wire", *wanted), rows)


def _reached(found: Sequence[Outcome], aims: Sequence[float]) -> str:
    costs = [one.bytes_to(aim) for one, aim in zip(found, aims, strict=False)]
    reached = [cost for cost in costs if cost is not None]
    if not reached:
        return "never"
    few = "" if len(reached) == len(costs) else f" ({len(reached)} of {len(costs)})"
    return f"{in_bytes(round(sum(reached) / len(reached)))}{few}"


def groups_of(held: Mapping[str, Any], name: str) -> dict[str, list[Outcome]]:
    """The outcomes of a task, by chains."""
    return {
        words: found
        for words in CHAINS
        if (found := [Outcome(held[key]) for key in sorted(held) if key.startswith(f"{name} / {words} / ")])
    }


def main() -> None:
    """Plays what is missing, prints, draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", default=",".join(PROBLEMS))
    parser.add_argument("--only", default="", help="runs whose 'task / chains / seed n' matches this expression")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    torch.set_num_threads(1)
    screen = console()
    held: dict[str, Any] = json.loads(given.out.read_text()) if given.out.exists() else {}
    wanted: list[tuple[str, Callable[[], dict[str, Any]]]] = [
        (f"{name} / {words} / seed {seed}", lambda n=name, c=chains, s=seed: played(PROBLEMS[n], c, s))  # type: ignore[misc]
        for seed in range(given.seeds)
        for name in given.tasks.split(",")
        for words, chains in CHAINS.items()
    ]
    for key, play in wanted:
        if key not in held and re.search(given.only, key):
            held[key] = play()
            one = Outcome(held[key])
            screen.print(f"{key}: {one.accuracy:.4f}, {in_bytes(one.wire)}, {held[key]['seconds']} s", style="dim")
            write_atomic(given.out, written(dict(sorted(held.items()))).encode(), fsync=False, mode=0o644)
    shown = []
    for name, problem in PROBLEMS.items():
        if groups := groups_of(held, name):
            made = table(problem, groups)
            made.show(screen)
            shown.append(made.markdown())
            if given.write:
                fronts(groups, problem.title, IMAGES / f"fewest-{name}.png")
                shown.append(f"![{problem.title}](images/results/fewest-{name}.png)\n")
    if given.write:
        fill(PAGE, COMMAND, "\n".join(shown).strip())


if __name__ == "__main__":
    main()
