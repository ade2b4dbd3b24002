"""`thinwire compare`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from thinwire.methods.registry import method_ids
from thinwire.operator.advise_trials import Trials
from thinwire.operator.compare import Comparison, run_comparison, simulate_comparison
from thinwire.operator.console import Screen, console, in_figure
from thinwire.operator.fleet import Fleet
from thinwire.operator.follow import Step
from thinwire.operator.sheet import Sheet
from thinwire.operator.simulated import Simulations
from thinwire.operator.tables import counted
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.settings import RunSettings

from .options import AsFormat, Assigned, Format, fail, print_json, with_options
from .run_settings import run_settings
from .workplace import Folders, displayed, require_extras, workplace

PLAIN = ":plain"
CHAINS = ("chains", "uplink", "downlink")
_COARSE = {"up": "quantise(4), entropy", "down": "delta, quantise(4), entropy"}
SUITED: Mapping[str, Mapping[str, Any]] = {
    "fedavg": {"chains": {"train": _COARSE}, "settings": {"error-feedback": True}},
    "feddkd": {
        "chains": {"train": _COARSE},
        "settings": {"error-feedback": True, "distil-rounds": "last", "distil-steps": 10},
    },
    "feddlr": {"settings": {"factors": "quantise(8), entropy"}},
    "progfed": {"chains": {"*": _COARSE}, "settings": {"error-feedback": True}},
}
"""Where a comparison begins: for methods whose defaults are not their thriftiest. Others begin with their defaults."""


@with_options
def compare(
    *,
    methods: Annotated[
        str | None,
        typer.Option(help="comma-separated; METHOD:plain sends raw arrays; default: fedavg:plain and every method"),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="of training, in each run")] = 20,
    fleet: Fleet,
    target: Annotated[
        float | None, typer.Option(min=0, help="accuracy, or score, to reach; default: 0.98 of the baseline's best")
    ] = None,
    score: Annotated[
        str | None,
        typer.Option(
            help="one of the task's own, in the place of accuracy; rmse, ..._error and the like: less is better"
        ),
    ] = None,
    simulate: Annotated[
        bool, typer.Option("--simulate", help="without coordinator and network: framing is foretold")
    ] = False,
    assigned: Assigned,
    folders: Folders,
    format_: AsFormat = Format.TABLE,
) -> None:
    """Run several methods on the same data, clients and wire, and show which accuracy cost how many bytes.

    Each method begins with settings that suit it; the report shows them. `--set KEY=VALUE` holds for every run,
    `--set METHOD.KEY=VALUE` for the runs of one method; chains set so leave METHOD:plain as it is.
    """
    wanted = [f"fedavg{PLAIN}", *method_ids()] if methods is None else [name.strip() for name in methods.split(",")]
    defaults: dict[str, Any] = {"rounds": rounds, "cohort": fleet.clients, "seed": fleet.seed, "best": score}
    runs = [_settings(name, assigned.set_, defaults) for name in wanted]
    if len({settings.name for settings in runs}) != len(runs):
        fail("--methods names a run twice", Exit.USAGE)
    require_extras()
    screen = console(stderr=format_ is Format.JSON)
    with workplace(folders) as folder:
        with displayed(screen, format_) as step:
            comparison = _compared(fleet, runs, folder, screen, step, simulate=simulate)
        if not comparison.results:
            fail("every run is refused: " + "\n  ".join(one.reason for one in comparison.refused), Exit.REFUSED)
        _tell(comparison.by(score), fleet, target, folders.report, format_)
    failed = [one.view.name for one in comparison.results if one.view.outcome != "completed"]
    if failed := [*failed, *(one.settings.name for one in comparison.refused)]:
        fail(f"not completed: {', '.join(failed)}", Exit.FAILED)


def _compared(
    fleet: Fleet, runs: Sequence[RunSettings], folder: Path, screen: Screen, step: Step, *, simulate: bool
) -> Comparison:
    def say(line: str) -> None:
        screen.print(line, style="dim")

    if not simulate:
        return run_comparison(fleet, runs, folder, say, step)
    with Trials(fleet.plays()) as trials:
        return simulate_comparison(Simulations(trials), runs, folder, say, step)


def _settings(wanted: str, assignments: Sequence[str], defaults: dict[str, Any]) -> RunSettings:
    """The settings of one run. Its name is the method's, with -plain behind it for raw arrays."""
    method = wanted.removesuffix(PLAIN)
    begun = {"chains": "plain"} if wanted.endswith(PLAIN) else SUITED.get(method, {})
    mine = []
    for assignment in assignments:
        owner, dot, rest = assignment.partition("=")[0].partition(".")
        if not dot:
            mine.append(assignment)
        elif owner == method:
            # A plain run stays plain: it is what the others are measured against.
            if not (wanted.endswith(PLAIN) and rest.split(".")[0] in CHAINS):
                mine.append(assignment.removeprefix(f"{owner}."))
        elif owner not in method_ids() or not rest:
            fail(f"--set {assignment}: {owner!r} is no method", Exit.USAGE)
    name = wanted.replace(PLAIN, "-plain")
    return run_settings(None, mine, {**defaults, **begun, "name": name, "method": method})


def _tell(comparison: Comparison, fleet: Fleet, target: float | None, folder: Path, format_: Format) -> None:
    from thinwire.operator.reports.comparison import comparison_facts, write_comparison

    facts = comparison_facts(comparison, fleet, target)
    if format_ is Format.JSON:
        print_json(facts | {"report": str(folder)})
    else:
        _show(facts)
    write_comparison(comparison, fleet, facts, folder)
    if format_ is Format.TABLE:
        console().print(f"report: {folder / 'report.html'}")


def _show(facts: Mapping[str, Any]) -> None:
    from thinwire.operator.reports.comparison import NOTES, columns, comparison_cells, is_own, troubles

    made = Sheet(None, columns(facts), text=("run",))
    for cells in comparison_cells(facts):
        made.add_row(*cells)
    screen = console()
    screen.print(made)
    if any(is_own(run) for run in facts["runs"]):
        for line in NOTES:
            screen.print(line)
    for line in troubles(facts):
        screen.print(line)
    reached = f"wire bytes until {facts['score']} {in_figure(facts['target_accuracy'])}"
    screen.print(f"to target: {reached}; saved: of those of {facts['baseline']}")
    screen.print(counted(facts["unaccounted_bytes"]))
