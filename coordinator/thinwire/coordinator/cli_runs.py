"""`thinwire run`: start, look at, steer and fetch runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.messages import Ledger, RunCommand, RunList, RunMetrics, RunRequest, RunView, StoredModel

from .cli_options import (
    DATA_DIR,
    AsFormat,
    CaFile,
    DataDir,
    Format,
    RunName,
    Set,
    Url,
    fail,
    operator,
    print_json,
    run_settings,
    warn,
)
from .console import console, in_bytes, in_time, table
from .ledger_tables import kind_table, link_table
from .round_table import final_measures, measure_table, round_table
from .rounds import rounds_of
from .watch import watch as watch_run

app = typer.Typer(help="Start, look at, steer and fetch runs.", no_args_is_help=True)


class ShowFormat(StrEnum):
    """How `run show` answers."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class Open(StrEnum):
    """What becomes of the open exchange."""

    FINISH = "finish"
    DROP = "drop"


OpenExchange = Annotated[Open, typer.Option("--open", help="finish the open exchange first, or drop it")]


@app.command()
def start(
    model: Annotated[Path, typer.Option("--model", help="safetensors file to start from")],
    config: Annotated[Path | None, typer.Option("--config", help="run.toml")] = None,
    set_: Set = None,
    follow: Annotated[bool, typer.Option("--watch", help="stay and show the rounds")] = False,
    data_dir: DataDir = DATA_DIR,
    url: Url = None,
    ca_file: CaFile = None,
    format_: AsFormat = Format.TABLE,
) -> None:
    """Start a run from a model file."""
    settings = run_settings(config, set_ or [])
    if not model.is_file():
        fail(f"--model {model}: there is no such file", Exit.USAGE)
    with operator(data_dir, url, ca_file) as coordinator:
        stored = coordinator.send_file("/v1/models", model, StoredModel)
        view = coordinator.ask("POST", "/v1/runs", RunView, RunRequest(settings=settings, model=stored.digest))
        if format_ is Format.JSON:
            print_json(view)
        else:
            print(f"run {view.name} ({view.id}): {view.parameters} parameters, waits for {settings.present} client(s)")
        warn(view)
        if follow:
            _follow(watch_run(coordinator, view.id, live=format_ is Format.TABLE))


@app.command("list")
def list_(
    data_dir: DataDir = DATA_DIR, url: Url = None, ca_file: CaFile = None, format_: AsFormat = Format.TABLE
) -> None:
    """All runs, the newest first."""
    with operator(data_dir, url, ca_file) as coordinator:
        found = coordinator.ask("GET", "/v1/runs", RunList)
    if format_ is Format.JSON:
        print_json(found)
        return
    words = ("run", "id", "method", "state", "created")
    shown = table(None, ("run", "id", "method", "state", "round", "answers", "created"), text=words)
    for view in found.runs:
        shown.add_row(
            view.name, view.id, view.method, _state(view), f"{view.round}/{view.rounds}",
            f"{view.answers}/{view.cohort}", in_time(view.created_at),
        )  # fmt: skip
    console().print(shown)


@app.command()
def show(
    run: RunName,
    data_dir: DataDir = DATA_DIR,
    url: Url = None,
    ca_file: CaFile = None,
    format_: Annotated[ShowFormat, typer.Option("--format", help="table, json or csv (the ledger)")] = ShowFormat.TABLE,
) -> None:
    """A run, its rounds, and its ledger: bytes by client and kind, payload and framing apart."""
    with operator(data_dir, url, ca_file) as coordinator:
        if format_ is ShowFormat.CSV:
            print(coordinator.text(f"/v1/runs/{run}/ledger", "text/csv"), end="")
            return
        view = coordinator.ask("GET", f"/v1/runs/{run}", RunView)
        metrics = coordinator.ask("GET", f"/v1/runs/{run}/metrics", RunMetrics)
        ledger = coordinator.ask("GET", f"/v1/runs/{run}/ledger", Ledger)
    if format_ is ShowFormat.JSON:
        parts = {"run": view, "metrics": metrics, "ledger": ledger}
        print_json({name: part.model_dump(mode="json") for name, part in parts.items()})
        return
    screen = console()
    screen.print(f"run {view.name} ({view.id}), {view.method}: {_state(view)}, round {view.round} of {view.rounds}")
    if view.reason:
        screen.print(f"reason: {view.reason}")
    warn(view)
    screen.print(round_table(rounds_of(metrics.exchanges), view.parameters))
    if (measured := measure_table(metrics.exchanges)) is not None:
        screen.print(measured)
    if final := final_measures(metrics.exchanges):
        screen.print(f"after the last round: {final}")
    screen.print(kind_table(ledger))
    screen.print(link_table(ledger))


@app.command()
def watch(
    run: RunName,
    data_dir: DataDir = DATA_DIR,
    url: Url = None,
    ca_file: CaFile = None,
    format_: AsFormat = Format.TABLE,
) -> None:
    """Show the rounds as they come, until the run is over."""
    with operator(data_dir, url, ca_file) as coordinator:
        view = watch_run(coordinator, run, live=format_ is Format.TABLE)
        if format_ is Format.JSON:
            print_json(coordinator.ask("GET", f"/v1/runs/{run}/metrics", RunMetrics))
        _follow(view)


@app.command()
def pause(run: RunName, open_: OpenExchange = Open.FINISH, data_dir: DataDir = DATA_DIR, url: Url = None,
          ca_file: CaFile = None) -> None:  # fmt: skip
    """Offer no further tasks until the run is resumed."""
    _command("pause", run, open_, data_dir, url, ca_file)


@app.command()
def resume(run: RunName, data_dir: DataDir = DATA_DIR, url: Url = None, ca_file: CaFile = None) -> None:
    """Go on with a paused run."""
    _command("resume", run, Open.FINISH, data_dir, url, ca_file)


@app.command()
def stop(run: RunName, open_: OpenExchange = Open.FINISH, data_dir: DataDir = DATA_DIR, url: Url = None,
         ca_file: CaFile = None) -> None:  # fmt: skip
    """End a run for good; its model stays as it is."""
    _command("stop", run, open_, data_dir, url, ca_file)


@app.command()
def pull(
    run: RunName,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="file; default: RUN.safetensors")] = None,
    data_dir: DataDir = DATA_DIR,
    url: Url = None,
    ca_file: CaFile = None,
) -> None:
    """Fetch a run's global model as safetensors."""
    path = out or Path(f"{run}.safetensors")
    with operator(data_dir, url, ca_file) as coordinator:
        size = coordinator.fetch_file(f"/v1/runs/{run}/model", path)
    print(f"{path}: {in_bytes(size)}")


def _command(word: str, run: str, open_: Open, data_dir: Path, url: str | None, ca_file: Path | None) -> None:
    with operator(data_dir, url, ca_file) as coordinator:
        view = coordinator.ask("POST", f"/v1/runs/{run}/{word}", RunView, RunCommand(open=open_.value))
    print(f"run {view.name} ({view.id}): {_state(view)}")


def _state(view: RunView) -> str:
    return view.state if view.outcome is None else f"{view.state}: {view.outcome}"


def _follow(view: RunView) -> None:
    if view.outcome != "completed":
        fail(f"run {view.name}: {_state(view)}{f' ({view.reason})' if view.reason else ''}", Exit.FAILED)
