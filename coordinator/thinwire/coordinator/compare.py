"""Several runs on the same data, split and seed, served one after the other by one fleet over one coordinator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from thinwire.protocol.messages import RunCommand, RunRequest, RunView
from thinwire.protocol.settings import RunSettings

from .demo import (
    END_TIMEOUT_S,
    Fleet,
    Result,
    first_model,
    follow_run,
    kernel_counts,
    result_of,
    start_clients,
    start_coordinator,
)
from .ledger_tables import total
from .processes import Children, finish
from .watch import Step


@dataclass(frozen=True, slots=True)
class Comparison:
    """`results`: in the order asked for; their `seconds` are those of the rounds. `unaccounted_bytes`: what the kernels
    of the clients counted beyond the ledger.
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
    with Children(folder / "logs") as children:
        operator = start_coordinator(children, folder, say)
        try:
            model = first_model(children, operator, fleet, folder)
            views = []
            for settings in runs:
                view = operator.ask("POST", "/v1/runs", RunView, RunRequest(settings=settings, model=model))
                for sentence in view.warnings or ():
                    say(f"warning: {view.name}: {sentence}")
                # All but the one that is on wait: clients with a run still to come stay connected.
                views.append(operator.ask("POST", f"/v1/runs/{view.id}/pause", RunView, RunCommand(open="drop")))
            clients = start_clients(children, operator, fleet, folder)
            say(f"{fleet.clients} clients start, logs in {folder / 'logs'}")
            ended = []
            for view in views:
                operator.ask("POST", f"/v1/runs/{view.id}/resume", RunView, RunCommand())
                over = follow_run(children, operator, view, step)
                if over.state == "paused":
                    over = operator.ask("POST", f"/v1/runs/{view.id}/stop", RunView, RunCommand(open="drop"))
                ended.append(over)
            for child in clients:
                finish(child, END_TIMEOUT_S)
            kernel = {child.name: kernel_counts(folder, child.name) for child in clients}
            results = [
                _timed(result_of(operator, view, folder / f"{view.name}.safetensors", {}, 0.0)) for view in ended
            ]
            return Comparison(results, _unaccounted(results, kernel))
        finally:
            operator.close()


def _timed(result: Result) -> Result:
    # Its rounds alone: the first run also waits until all processes have started.
    return replace(result, seconds=sum(one.seconds for one in result.rounds))


def _unaccounted(results: Sequence[Result], kernel: Mapping[str, tuple[int, int]]) -> int:
    # Each run's ledger shows the rows that no run owns (enrolment, idle polls) as well: they count once.
    rows = {(row.run, row.client, row.exchange, row.kind): row for one in results for row in one.ledger.rows}
    theirs = total(row for row in rows.values() if row.client)
    return sum(sent + received for sent, received in kernel.values()) - theirs.uplink - theirs.downlink
