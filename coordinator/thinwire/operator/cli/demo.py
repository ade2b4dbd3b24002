"""`thinwire demo`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from thinwire.machine.quantities import in_bytes
from thinwire.operator.console import Screen, console, in_figure, in_percent
from thinwire.operator.demo import run_demo
from thinwire.operator.fleet import Fleet
from thinwire.operator.result import Result
from thinwire.operator.tables import counted, final_measures, measure_table
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.settings import RunSettings

from .options import AsFormat, Assigned, Format, fail, print_json, warn, with_options
from .run_settings import run_settings
from .workplace import Folders, displayed, require_extras, workplace

MEASURED = 20
"""Exchanges whose measures are shown; the report has all."""


@dataclass(frozen=True, slots=True)
class Training:
    """What a fleet of this machine does."""

    method: Annotated[str, Field(description="see `thinwire methods`")] = "fedavg"
    rounds: Annotated[int, Field(ge=1, description="of training")] = 10
    config: Annotated[Path | None, Field(description="a run.toml; it goes before --method and --rounds")] = None

    def settings(self, name: str, fleet: Fleet, assigned: Assigned) -> RunSettings:
        """Of the run that the fleet serves; what is wrong ends the process."""
        defaults: dict[str, Any] = {
            "name": name, "method": self.method, "rounds": self.rounds, "cohort": fleet.clients, "seed": fleet.seed,
        }  # fmt: skip
        return run_settings(self.config, assigned.set_, defaults)


@with_options
def demo(
    *,
    training: Training,
    fleet: Fleet,
    assigned: Assigned,
    folders: Folders,
    format_: AsFormat = Format.TABLE,
) -> None:
    """Start a coordinator and clients on this machine, train, and report accuracy against bytes."""
    settings = training.settings("demo", fleet, assigned)
    require_extras()
    screen = console(stderr=format_ is Format.JSON)
    with workplace(folders) as folder:
        with displayed(screen, format_) as step:
            result = run_demo(fleet, settings, folder, lambda line: screen.print(line, style="dim"), step)
        tell(result, fleet, folders.report, screen, format_)
    require_completed(result)


def require_completed(result: Result) -> None:
    """Ends the process with a failure where the run did."""
    if result.view.outcome != "completed":
        fail(f"the run is {result.view.state}: {result.view.reason or result.view.outcome}", Exit.FAILED)


def tell(result: Result, fleet: Fleet, folder: Path, screen: Screen, format_: Format) -> None:
    """Says on the screen what came out, and writes the report into the folder."""
    from thinwire.operator.reports.run import summary, write_report

    facts = summary(result, fleet)
    if format_ is Format.JSON:
        print_json(facts | {"report": str(folder)})
    else:
        _show(result, facts, folder, screen)
    write_report(result, facts, folder)
    if format_ is Format.TABLE:
        screen.print(f"report: {folder / 'report.html'}")


def _show(result: Result, facts: Mapping[str, Any], folder: Path, screen: Screen) -> None:
    wire = facts["uplink_bytes"] + facts["downlink_bytes"]
    up, down = in_bytes(facts["uplink_bytes"]), in_bytes(facts["downlink_bytes"])
    took = f", {facts['seconds']:.0f} s" if facts["seconds"] else ""
    screen.print(f"accuracy {in_figure(facts['accuracy'])} after {in_bytes(wire)} on the wire{took}")
    warn(facts["learning"])
    if facts["personal_accuracy"] is not None:
        screen.print("that is the mean of the clients' own models on the common test set;")
        screen.print(f"on test examples like each client's own it is {in_figure(facts['personal_accuracy'])}")
    screen.print(f"{up} up, {down} down, {in_percent(facts['framing_bytes'], wire)} of it framing")
    up, down = f"{facts['bits_per_parameter_up']:.2g}", f"{facts['bits_per_parameter_down']:.2g}"
    screen.print(f"{up} bits per parameter up, {down} down: payload of one answer, and of what it answered")
    if (measured := measure_table(result.exchanges[-MEASURED:])) is not None:
        screen.print(measured)
    if final := final_measures(result.exchanges):
        screen.print(f"after the last round: {final}")
    if facts["model_bytes"] is not None:
        screen.print(f"final model: {folder / 'model.safetensors'}, {in_bytes(facts['model_bytes'])}")
    screen.print(counted(facts["unaccounted_bytes"]))
