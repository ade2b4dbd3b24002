"""`--report-to`: the figures of a run, handed to where others keep theirs."""

from __future__ import annotations

from typing import Final

import typer

from thinwire.operator.follow import Told
from thinwire.operator.tracking.figures import TrackingError
from thinwire.operator.tracking.places import trackers
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.messages import ExchangeMetrics, RunView

from .options import fail

REPORT_TO: Final = typer.Option(
    "--report-to", metavar="PLACE", help="hand the figures of each round to mlflow:URL or tensorboard:FOLDER"
)


def told_to(report_to: list[str] | None) -> Told:
    """Hands a run's figures to these places; what goes wrong ends the process."""
    try:
        found = trackers(report_to or ())
    except TrackingError as error:
        fail(f"--report-to {error}", Exit.USAGE)

    def tell(view: RunView, exchanges: list[ExchangeMetrics]) -> None:
        try:
            for tracker in found:
                tracker.tell(view, exchanges)
        except TrackingError as error:
            fail(str(error), Exit.LOCAL)

    return tell
