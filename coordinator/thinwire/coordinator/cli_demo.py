"""`thinwire demo`."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.reasons import ProblemError

from .cli_options import AsFormat, Format, Set, exit_of, fail, print_json, run_settings
from .console import console, in_bytes, in_figure, in_percent
from .demo import Fleet, Result, run_demo
from .operate import UnreachableError
from .processes import ChildFailedError
from .round_table import final_measures, measure_table
from .watch import Step, shown

DataFile = Annotated[Path | None, typer.Option("--data", help="npz file of a task that is not bundled")]
Download = Annotated[bool, typer.Option("--download", help="fetch the task's data from the usual place, once")]
Architecture = Annotated[
    str | None, typer.Option("--architecture", help="instead of the task's own; several, by commas, take turns")
]
Limit = Annotated[str | None, typer.Option("--limit", help="use only so many examples: TRAIN or TRAIN/TEST")]
Allow = Annotated[list[str] | None, typer.Option(help="what the clients consent to, for example sample-knowledge")]
Device = Annotated[str, typer.Option(help="where the clients train: cpu, cuda, cuda:1, mps")]
MEASURED = 20
"""Exchanges whose measures are shown; the report has all."""
EXTRA = {"matplotlib": "draws the report", "sklearn": "holds the digits", "torch": "trains"}


def demo(
    method: Annotated[str, typer.Option(help="see `thinwire methods`")] = "fedavg",
    rounds: Annotated[int, typer.Option(min=1, help="of training")] = 10,
    clients: Annotated[int, typer.Option(min=1, max=1000, help="processes; all answer in every round")] = 8,
    task: Annotated[str, typer.Option(help="as for `thinwire-client join`")] = "digits",
    data: DataFile = None,
    download: Download = False,
    architecture: Architecture = None,
    limit: Limit = None,
    allow: Allow = None,
    device: Device = "cpu",
    split: Annotated[str, typer.Option(help="iid, dirichlet:ALPHA, classes:K or natural")] = "dirichlet:0.3",
    seed: Annotated[int, typer.Option(min=0, help="of model, split and everything random")] = 0,
    link: Annotated[str | None, typer.Option(help="emulate 4g, 3g, nb-iot, satellite or RATE,RTT,LOSS")] = None,
    set_: Set = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="keep all data and logs here; default: a temporary folder")
    ] = None,
    report: Annotated[Path, typer.Option(help="folder for the report")] = Path("thinwire-report"),
    format_: AsFormat = Format.TABLE,
) -> None:
    """Start a coordinator and clients on this machine, train, and report accuracy against bytes."""
    defaults: dict[str, Any] = {"name": "demo", "method": method, "rounds": rounds, "cohort": clients, "seed": seed}
    settings = run_settings(None, set_ or [], defaults)
    require_extras()
    screen = console(stderr=format_ is Format.JSON)
    fleet = Fleet(clients, task, split, seed, link, data, architecture, limit, tuple(allow or ()), download, device)
    display: AbstractContextManager[Step] = shown(screen) if format_ is Format.TABLE else nullcontext(show_nothing)
    with workplace(data_dir) as folder:
        with display as step:
            result = run_demo(fleet, settings, folder, lambda line: screen.print(line, style="dim"), step)
        tell(result, fleet, report, screen, format_)
    if result.view.outcome != "completed":
        fail(f"the run is {result.view.state}: {result.view.reason or result.view.outcome}", Exit.FAILED)


def require_extras() -> None:
    """Ends the process unless what clients, data and reports need is installed."""
    for module, purpose in EXTRA.items():
        if importlib.util.find_spec(module) is None:
            fail(f"{module}, which {purpose}, is missing: pip install 'thinwire[demo]'", Exit.LOCAL)


@contextmanager
def workplace(data_dir: Path | None) -> Iterator[Path]:
    """An empty folder for the data and logs of processes; what goes wrong ends this process with its exit code.

    A temporary folder is removed, unless the message names a log in it.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    keep = data_dir is not None
    try:
        folder = _fresh_folder(data_dir)
    except OSError as error:
        fail(str(error), Exit.LOCAL)
    try:
        yield folder
    except KeyboardInterrupt:
        fail("interrupted; all processes have ended", Exit.INTERRUPTED)
    except ChildFailedError as error:
        keep = True
        fail(str(error), Exit(error.code) if error.code in set(Exit) else Exit.FAILED)
    except ProblemError as error:
        fail(f"{error.reason}: {error.detail}", exit_of(error))
    except UnreachableError as error:
        fail(str(error), Exit.UNREACHABLE)
    except OSError as error:
        fail(str(error), Exit.LOCAL)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _fresh_folder(data_dir: Path | None) -> Path:
    """A temporary folder, or `demo-1`, `demo-2`, ... in the given one: clients never meet data of an older demo."""
    if data_dir is None:
        return Path(tempfile.mkdtemp(prefix="thinwire-demo-"))
    number = 1
    while (folder := data_dir / f"demo-{number}").exists():
        number += 1
    folder.mkdir(parents=True)
    return folder


def tell(result: Result, fleet: Fleet, folder: Path, screen: Any, format_: Format) -> None:
    """Writes the report into the folder and says on the screen what came out."""
    from .report import summary, write_report

    facts = summary(result, fleet)
    write_report(result, fleet, facts, folder)
    if format_ is Format.JSON:
        print_json(facts | {"report": str(folder)})
        return
    wire = facts["uplink_bytes"] + facts["downlink_bytes"]
    up, down = in_bytes(facts["uplink_bytes"]), in_bytes(facts["downlink_bytes"])
    screen.print(
        f"accuracy {in_figure(facts['accuracy'])} after {in_bytes(wire)} on the wire, {facts['seconds']:.0f} s"
    )
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
    screen.print(f"unaccounted: {facts['unaccounted_bytes']} B between the clients' kernels and the ledger")
    screen.print(f"report: {folder / 'report.html'}")


def show_nothing(_view: object, _rounds: object) -> None:
    """Nothing is shown while a JSON answer is in the making."""


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
