"""Several runs on the same data, split and seed, served one after the other by one fleet over one coordinator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from thinwire.protocol.settings import RunSettings

from .fleet import Fleet
from .follow import Step
from .lab import Lab
from .result import Result, result_of
from .tables import total


@dataclass(frozen=True, slots=True)
class Comparison:
    """`results`: in the order asked for; their `seconds` are those of the rounds: the first run also waits until all
    processes have started. `unaccounted_bytes`: what the kernels of the clients counted beyond the ledger.
    """

    results: list[Result]
    unaccounted_bytes: int


def run_comparison(
    fleet: Fleet, runs: Sequence[RunSettings], folder: Path, say: Callable[[str], None], step: Step
) -> Comparison:
    """The results of runs with different names; all processes have ended. `folder`: empty; data and logs go there.

    A run that ends other than completed is a result too. Raises: `ChildFailedError`, `ProblemError`,
    `UnreachableError`, `OSError`.
    """
    with Lab(folder) as lab:
        lab.serve()
        say(f"coordinator at {lab.url}")
        model = lab.store(lab.first_model_of(fleet))
        views = []
        for settings in runs:
            view = lab.park_run(model, settings)
            for sentence in view.warnings or ():
                say(f"warning: {view.name}: {sentence}")
            views.append(view)
        clients = lab.join_fleet(fleet)
        say(f"{fleet.clients} clients start, logs in {folder / 'logs'}")
        ended = [lab.play(view, step) for view in views]
        lab.finish(clients)
        kernel = {child.name: lab.kernel(child.name) for child in clients}
        results = [result_of(lab.operator, view, folder / f"{view.name}.safetensors") for view in ended]
        return Comparison(results, _unaccounted(results, kernel))


def _unaccounted(results: Sequence[Result], kernel: Mapping[str, tuple[int, int]]) -> int:
    # Each run's ledger shows the rows that no run owns (enrolment, idle polls) as well: they count once.
    rows = {(row.run, row.client, row.exchange, row.kind): row for one in results for row in one.ledger.rows}
    theirs = total(row for row in rows.values() if row.client)
    return sum(sent + received for sent, received in kernel.values()) - theirs.wire
