"""`thinwire run`: start, look at, steer and fetch runs."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

from thinwire.machine.quantities import in_bytes
from thinwire.machine.text import printable
from thinwire.methods.rounds import rounds_of
from thinwire.operator import requests
from thinwire.operator.client import Coordinator
from thinwire.operator.console import console, in_time, say
from thinwire.operator.follow import budgeted
from thinwire.operator.follow import watch as watch_run
from thinwire.operator.learning import learning_warnings
from thinwire.operator.requests import Command, run_path
from thinwire.operator.sheet import Sheet
from thinwire.operator.tables import (
    best_line,
    final_measures,
    kind_table,
    link_table,
    measure_table,
    round_table,
    score_of,
)
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.messages import RunChange, RunView

from .first_model import OF_RUN, first_model
from .options import Address, AsFormat, Assigned, Format, RunName, fail, operator, print_json, warn, with_options
from .reporting import REPORT_TO, told_to
from .run_log import log
from .run_settings import run_settings

app = typer.Typer(help="Start, look at, steer and fetch runs.", no_args_is_help=True)


MISSED_ROUNDS: Final = 5
"""The latest ones in which somebody was missing are told of, with the names."""


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
@with_options
def start(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            metavar="FILE",
            help="safetensors file to start from; best:RUN, best:RUN:SCORE or last:RUN: the model of another run",
        ),
    ],
    *,
    config: Annotated[Path | None, typer.Option("--config", help="run.toml")] = None,
    assigned: Assigned,
    follow: Annotated[bool, typer.Option("--watch", help="stay and show the rounds")] = False,
    at: Address,
    format_: AsFormat = Format.TABLE,
) -> None:
    """Start a run from a model file, or where another run has come to."""
    settings = run_settings(config, assigned.set_)
    if not Path(model).is_file() and not model.startswith(OF_RUN):
        fail(f"--model {model}: there is no such file", Exit.USAGE)
    with operator(at) as coordinator, first_model(coordinator, model) as file:
        stored = coordinator.store_model(file)
        view = coordinator.start_run(settings, stored.digest)
        if format_ is Format.JSON:
            print_json(view)
        else:
            say(f"run {view.name} ({view.id}): {view.parameters} parameters, waits for {settings.present} client(s)")
        warn(view.warnings)
        if follow:
            _follow(coordinator, watch_run(coordinator, view.id, live=format_ is Format.TABLE))


@app.command("list")
@with_options
def list_(at: Address, format_: AsFormat = Format.TABLE) -> None:
    """All runs, the newest first."""
    with operator(at) as coordinator:
        found = coordinator.send(requests.runs())
    if format_ is Format.JSON:
        print_json(found)
        return
    words = ("run", "id", "method", "state", "created")
    shown = Sheet(None, ("run", "id", "method", "state", "round", "answers", "created"), text=words)
    for view in found.runs:
        shown.add_row(
            view.name, view.id, view.method, _state(view), f"{view.round}/{view.rounds}",
            "" if view.state == "finished" else f"{view.answers}/{view.cohort}", in_time(view.created_at),
        )  # fmt: skip
    console().print(shown)


@app.command()
@with_options
def show(
    run: RunName,
    at: Address,
    format_: Annotated[ShowFormat, typer.Option("--format", help="table, json or csv (the ledger)")] = ShowFormat.TABLE,
    report_to: Annotated[list[str] | None, REPORT_TO] = None,
) -> None:
    """A run, its rounds, and its ledger: bytes by client and kind, payload and framing apart."""
    with operator(at) as coordinator:
        if format_ is ShowFormat.CSV:
            say(coordinator.text(run_path(run, "/ledger"), "text/csv").removesuffix("\n"))
            return
        view = coordinator.run(run)
        metrics = coordinator.send(requests.metrics(run))
        ledger = coordinator.ledger(run, None if format_ is ShowFormat.JSON else "client")
        attendance = coordinator.send(requests.attendance(run))
    told_to(report_to)(view, metrics.exchanges)
    learning = learning_warnings(metrics.exchanges)
    if format_ is ShowFormat.JSON:
        parts = {"run": view, "metrics": metrics, "ledger": ledger, "attendance": attendance}
        print_json({**{name: part.model_dump(mode="json") for name, part in parts.items()}, "learning": learning})
        return
    screen = console()
    screen.print(f"run {view.name} ({view.id}), {view.method}: {_state(view)}, round {view.round} of {view.rounds}")
    if view.reason:
        screen.print(f"reason: {printable(view.reason)}")
    for best in view.best or ():
        screen.print(best_line(best))
    if view.waits_for and view.answers < view.cohort:
        screen.print(f"waits for {printable(', '.join(view.waits_for))}")
    for said in budgeted(view):
        screen.print(said)
    warn([*(view.warnings or ()), *learning])
    score = score_of(view)
    screen.print(round_table(rounds_of(metrics.exchanges, score), view.parameters, score=score))
    worth_a_line = (each for each in attendance.exchanges if each.counted < each.asked or each.came)
    for one in list(worth_a_line)[-MISSED_ROUNDS:]:
        screen.print(f"round {one.round}, {one.kind}: {printable(one.said)}")
    if (measured := measure_table(metrics.exchanges)) is not None:
        screen.print(measured)
    if final := final_measures(metrics.exchanges):
        screen.print(f"after the last round: {final}")
    screen.print(kind_table(ledger))
    screen.print(link_table(ledger))


@app.command()
@with_options
def watch(
    run: RunName,
    at: Address,
    format_: AsFormat = Format.TABLE,
    report_to: Annotated[list[str] | None, REPORT_TO] = None,
) -> None:
    """Show the rounds as they come, until the run is over."""
    with operator(at) as coordinator:
        view = watch_run(coordinator, run, live=format_ is Format.TABLE, told=told_to(report_to))
        if format_ is Format.JSON:
            print_json(coordinator.send(requests.metrics(run)))
        _follow(coordinator, view)


app.command("log")(log)


@app.command()
@with_options
def pause(run: RunName, *, open_: OpenExchange = Open.FINISH, at: Address) -> None:
    """Offer no further tasks until the run is resumed."""
    _command("pause", run, open_, at)


@app.command()
@with_options
def resume(run: RunName, at: Address) -> None:
    """Go on with a paused run."""
    _command("resume", run, Open.FINISH, at)


@app.command()
@with_options
def stop(run: RunName, *, open_: OpenExchange = Open.FINISH, at: Address) -> None:
    """End a run for good; its model stays as it is."""
    _command("stop", run, open_, at)


@app.command()
@with_options
def extend(
    run: RunName,
    *,
    rounds: Annotated[int | None, typer.Option(min=1, help="in all; more than before")] = None,
    quorum: Annotated[int | None, typer.Option(min=1, help="answers without which an exchange fails")] = None,
    deadline_s: Annotated[float | None, typer.Option(help="seconds of an exchange")] = None,
    max_bytes: Annotated[int | None, typer.Option(min=1, help="wire bytes of the run")] = None,
    max_bytes_per_round: Annotated[int | None, typer.Option(min=1, help="of one client")] = None,
    max_bytes_per_day: Annotated[int | None, typer.Option(min=1, help="of one client")] = None,
    max_bytes_per_month: Annotated[int | None, typer.Option(min=1, help="of one client")] = None,
    at: Address,
) -> None:
    """Give a paused run more rounds, another quorum, deadline or budgets, in force when it is resumed."""
    if deadline_s is not None and deadline_s <= 0:
        fail("--deadline-s is more than 0", Exit.USAGE)
    wanted = RunChange(
        rounds=rounds, quorum=quorum, deadline_s=deadline_s, max_bytes=max_bytes,
        max_bytes_per_round=max_bytes_per_round, max_bytes_per_day=max_bytes_per_day,
        max_bytes_per_month=max_bytes_per_month,
    )  # fmt: skip
    with operator(at) as coordinator:
        view = coordinator.change(run, wanted)
    say(f"run {view.name} ({view.id}): {_state(view)}, {view.rounds} rounds")


@app.command()
@with_options
def pull(
    run: RunName,
    score: Annotated[
        str | None,
        typer.Argument(
            metavar="[SCORE]", help="of --best: one that the run keeps the best model by; default: the first"
        ),
    ] = None,
    *,
    best: Annotated[bool, typer.Option("--best", help="the best model so far instead of the last one")] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="file; default: RUN.safetensors")] = None,
    at: Address,
) -> None:
    """Fetch a run's global model as safetensors: the last one, or with --best the best one."""
    if score is not None and not best:
        fail(f"{score}: say --best {score} for the best model by this score", Exit.USAGE)
    path = out or Path(f"{run}.safetensors")
    with operator(at) as coordinator:
        size = coordinator.pull(run, path, (score or "") if best else None)
        kept = [one for one in coordinator.run(run).best or () if score in (None, one.score)] if best else []
    say(f"{path}: {in_bytes(size)}{f', {best_line(kept[0])}' if kept else ''}")


@app.command()
@with_options
def delete(run: RunName, at: Address) -> None:
    """Delete a run that is over, its model and figures with it; its bytes stay in the coordinator's sums."""
    with operator(at) as coordinator:
        coordinator.delete_run(run)
    say(f"the run {run} is deleted")


def _command(word: Command, run: str, open_: Open, at: Address) -> None:
    with operator(at) as coordinator:
        view = coordinator.command(run, word, open_.value)
    say(f"run {view.name} ({view.id}): {_state(view)}")


def _state(view: RunView) -> str:
    return view.state if view.outcome is None else f"{view.state}: {view.outcome}"


def _follow(coordinator: Coordinator, view: RunView) -> None:
    """The end of a run that was watched."""
    warn(learning_warnings(coordinator.metrics(view.id)))
    if view.outcome != "completed":
        fail(f"run {view.name}: {_state(view)}{f' ({view.reason})' if view.reason else ''}", Exit.FAILED)
