"""`thinwire simulate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinwire.operator.advise_trials import Trials
from thinwire.operator.console import console
from thinwire.operator.fleet import Fleet
from thinwire.operator.simulated import Simulations

from .demo import fleet_settings, require_completed, tell
from .options import AsFormat, Assigned, Format, with_options
from .workplace import Folders, displayed, require_extras, workplace


@with_options
def simulate(
    *,
    method: Annotated[str, typer.Option(help="see `thinwire methods`")] = "fedavg",
    rounds: Annotated[int, typer.Option(min=1, help="of training")] = 10,
    fleet: Fleet,
    config: Annotated[Path | None, typer.Option(help="a run.toml; it goes before --method and --rounds")] = None,
    assigned: Assigned,
    folders: Folders,
    format_: AsFormat = Format.TABLE,
) -> None:
    """Play a run on this machine, without a coordinator and a network, and report accuracy against bytes.

    The model is that of the real run to the bit, where the same clients contribute. Payloads are those that the codecs
    make; what frames them is foretold as it was measured, and seconds are those of transfers on `--link`.
    """
    settings = fleet_settings("simulated", method, rounds, fleet, config, assigned)
    require_extras()
    screen = console(stderr=format_ is Format.JSON)
    with workplace(folders) as folder:
        with displayed(screen, format_) as step, Trials(fleet.plays()) as trials:
            result = Simulations(trials).play(settings, folder / "model.safetensors", step)
        tell(result, fleet, folders.report, screen, format_)
    require_completed(result)
