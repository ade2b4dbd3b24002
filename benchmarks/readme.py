"""README's pictures of a demo, from a real one: `python -m benchmarks.readme`."""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path
from typing import Final

from thinwire.operator.cli.demo import tell
from thinwire.operator.cli.options import Format
from thinwire.operator.console import Screen, console
from thinwire.operator.demo import run_demo
from thinwire.operator.fleet import Fleet
from thinwire.operator.follow import LIVE_ROUNDS
from thinwire.operator.reports.run import PLOT
from thinwire.operator.tables import round_table
from thinwire.protocol.settings import RunSettings

IMAGES: Final = Path("docs/images")
WIDTH: Final = 90


def main() -> None:
    """Runs what `thinwire demo` runs, and draws what it shows at its end."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    screen = Screen(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    fleet = Fleet(8, "digits", "dirichlet:0.3", 0, None)
    settings = RunSettings(name="demo", method="fedavg", rounds=10, cohort=fleet.clients, seed=0)
    screen.print("$ thinwire demo", style="bold")
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "thinwire-report"
        # Without the folder of logs, which is gone by then.
        result = run_demo(
            fleet,
            settings,
            Path(name),
            lambda line: screen.print(line.partition(", logs")[0], style="dim"),
            lambda _view, _rounds: None,
        )
        screen.print(round_table(result.rounds, result.view.parameters, last=LIVE_ROUNDS))
        tell(result, fleet, report, screen, Format.TABLE)
        shutil.copyfile(report / PLOT, IMAGES / PLOT)
    svg = screen.export_svg(title="thinwire demo").replace(f"{report.parent}/", "")
    (IMAGES / "demo.svg").write_text(svg + "\n")
    console().print(f"written: {IMAGES / 'demo.svg'}, {IMAGES / PLOT}")


if __name__ == "__main__":
    main()
