"""`thinwire simulate`."""

from __future__ import annotations

from thinwire.operator.advise_trials import Trials
from thinwire.operator.console import console
from thinwire.operator.fleet import Fleet
from thinwire.operator.simulated import Simulations

from .demo import Training, require_completed, tell
from .options import AsFormat, Assigned, Format, with_options
from .workplace import Folders, displayed, require_extras, workplace


@with_options
def simulate(
    *,
    training: Training,
    fleet: Fleet,
    assigned: Assigned,
    folders: Folders,
    format_: AsFormat = Format.TABLE,
) -> None:
    """Play a run on this machine, without a coordinator and a network, and report accuracy against bytes.

    The model is that of the real run to the bit, where the same clients contribute. Payloads are those that the codecs
    make; what frames them is foretold as it was measured, and seconds are those of transfers on `--link`.
    """
    settings = training.settings("simulated", fleet, assigned)
    require_extras()
    screen = console(stderr=format_ is Format.JSON)
    with workplace(folders) as folder:
        with displayed(screen, format_) as step, Trials(fleet.plays()) as trials:
            result = Simulations(trials).play(settings, folder / "model.safetensors", step)
        tell(result, fleet, folders.report, screen, format_)
    require_completed(result)
