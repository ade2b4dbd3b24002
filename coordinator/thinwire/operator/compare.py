"""Several runs on the same data, split and seed, served one after the other by one fleet over one coordinator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from thinwire.protocol.messages import RunView
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

from .fleet import Fleet
from .follow import Step
from .lab import Lab
from .processes import ChildFailedError
from .result import Result, result_of
from .simulated import Simulations
from .tables import total


@dataclass(frozen=True, slots=True)
class Refused:
    """A run that the coordinator would not make, and why."""

    settings: RunSettings
    reason: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """`results`: in the order asked for; their `seconds` are those of the rounds: the first run also waits until all
    processes have started. `unaccounted_bytes`: what the kernels of the clients counted beyond the ledger; None where
    the runs were played without a network.
    """

    results: list[Result]
    refused: list[Refused]
    unaccounted_bytes: int | None

    def by(self, score: str | None) -> Comparison:
        """The same, with a score of the task's own in the place of accuracy; None: as the runs have it."""
        return self if score is None else replace(self, results=[replace(one, score=score) for one in self.results])


def run_comparison(
    fleet: Fleet, runs: Sequence[RunSettings], folder: Path, say: Callable[[str], None], step: Step
) -> Comparison:
    """The results of runs with different names; all processes have ended. `folder`: empty; data and logs go there.

    A run that ends other than completed is a result too, and so is one that ends its clients: it is stopped, and the
    next one has the clients started again. Raises: `ChildFailedError`, `ProblemError`, `UnreachableError`, `OSError`.
    """
    with Lab(folder) as lab:
        lab.serve()
        say(f"coordinator at {lab.url}")
        model = lab.store(lab.first_model_of(fleet))
        views, refused = list[RunView](), list[Refused]()
        for settings in runs:
            try:
                view = lab.park_run(model, settings)
            except ProblemError as error:
                refused.append(Refused(settings, f"{error.reason}: {error.detail}"))
                say(f"refused: {settings.name}: {error.detail}")
                continue
            for sentence in view.warnings or ():
                say(f"warning: {view.name}: {sentence}")
            views.append(view)
        if not views:
            return Comparison([], refused, 0)
        clients = _Clients(lab, fleet)
        say(f"{fleet.clients} clients start, logs in {folder / 'logs'}")
        ended = [clients.play(view, step) for view in views]
        kernel = clients.finish()
        results = [result_of(lab.operator, view, folder / f"{view.name}.safetensors") for view in ended]
        return Comparison(results, refused, _unaccounted(results, kernel))


def simulate_comparison(
    simulations: Simulations, runs: Sequence[RunSettings], folder: Path, say: Callable[[str], None], step: Step
) -> Comparison:
    """The results of the same runs, played without a network. Raises: `TrialsFailedError`."""
    results, refused = list[Result](), list[Refused]()
    for settings in runs:
        try:
            results.append(simulations.play(settings, folder / f"{settings.name}.safetensors", step))
        except ProblemError as error:
            refused.append(Refused(settings, f"{error.reason}: {error.detail}"))
            say(f"refused: {settings.name}: {error.detail}")
    return Comparison(results, refused, None)


class _Clients:
    """The clients of all runs, and what the kernels of those that have ended have counted."""

    def __init__(self, lab: Lab, fleet: Fleet) -> None:
        self._lab = lab
        self._fleet = fleet
        self._kernel = 0
        self._running = lab.join_fleet(fleet)

    def play(self, view: RunView, step: Step) -> RunView:
        """The run when it is over, or when it has ended a client: then it is stopped, and why is its reason."""
        try:
            return self._lab.play(view, step)
        except ChildFailedError as error:
            if error.child is self._lab.coordinator:
                raise
            over = self._lab.view(view.id)
            if over.state != "finished":
                over = self._lab.give_up(over)
            for child in self._running:
                self._lab.children.end(child)
            self._count()
            self._running = self._lab.join_fleet(self._fleet)
            return over.model_copy(update={"reason": over.reason or error.brief})

    def finish(self) -> int:
        """Bytes up and down as the kernels counted, when all have ended."""
        self._lab.finish(self._running)
        self._count()
        return self._kernel

    def _count(self) -> None:
        self._kernel += sum(sum(self._lab.kernel(child.name)) for child in self._running)


def _unaccounted(results: Sequence[Result], kernel: int) -> int:
    # Each run's ledger shows the rows that no run owns (enrolment, idle polls) as well: they count once.
    rows = {(row.run, row.client, row.exchange, row.kind): row for one in results for row in one.ledger.rows}
    return kernel - total(row for row in rows.values() if row.client).wire
