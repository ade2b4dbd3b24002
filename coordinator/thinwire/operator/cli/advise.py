"""`thinwire advise`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from thinwire.machine.quantities import in_bytes, parse_bytes
from thinwire.operator.advise import Advice, Goal, Told, Tried, advise, plain
from thinwire.operator.advise_trials import Trials, TrialsFailedError
from thinwire.operator.console import Screen, console, in_figure
from thinwire.operator.fleet import Fleet
from thinwire.operator.run_file import as_toml
from thinwire.operator.sheet import Sheet
from thinwire.protocol.exit_codes import Exit

from .options import AsFormat, Format, fail, print_json, with_options
from .workplace import require_extras

RUN_FILE = "run.toml"
JOURNAL = "trials.jsonl"
UNTRIED_SHOWN = 4


@with_options
def advise_command(
    *,
    target: Annotated[float | None, typer.Option(help="accuracy to reach (of a task without one: loss)")] = None,
    max_bytes: Annotated[str | None, typer.Option(help="wire bytes of the whole run at most: 2MB")] = None,
    minutes: Annotated[float, typer.Option(min=0.05, help="of trying; what is under way is finished")] = 10.0,
    rounds: Annotated[int, typer.Option(min=2, help="of training at most")] = 20,
    fleet: Fleet,
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for run.toml and what was tried")] = Path(
        "thinwire-advice"
    ),
    format_: AsFormat = Format.TABLE,
) -> None:
    """Try methods, chains and rates on your own task, and write the run that gets there for the fewest bytes.

    Short runs in one process, without a network, on a part of the examples first: rates, then chains and methods at the
    rates that held, then the best of them in full. Interrupted and started again it goes on where it was.
    """
    most = None if max_bytes is None else _bytes(max_bytes)
    require_extras()
    screen = console(stderr=format_ is Format.JSON)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with Trials(fleet.plays(), out / JOURNAL) as trials, _bar(screen) as told:
            found = advise(trials, Goal(rounds, target, most), fleet.seed, 60 * minutes, told)
    except TrialsFailedError as error:
        fail(str(error), Exit(error.code) if error.code in set(Exit) else Exit.FAILED)
    except OSError as error:
        fail(str(error), Exit.LOCAL)
    except KeyboardInterrupt:
        fail(f"interrupted; the same command goes on with what {out / JOURNAL} holds", Exit.INTERRUPTED)
    if found.chosen is not None:
        (out / RUN_FILE).write_text(_heading(found) + as_toml(plain(found.chosen.settings)))
    if format_ is Format.JSON:
        print_json(_facts(found, out))
    else:
        _show(screen, found, target, most, fleet, out)
    if found.chosen is None:
        fail("no rate learns on these data; see what was dropped", Exit.FAILED)


def _bytes(text: str) -> int:
    try:
        return parse_bytes(text)
    except ValueError as error:
        fail(f"--max-bytes {text}: {error}", Exit.USAGE)


@contextmanager
def _bar(screen: Screen) -> Iterator[Told]:
    """How much of the budget is spent, and what is being tried."""
    spent, what = TextColumn("{task.percentage:>3.0f} % of the time"), TextColumn("{task.description}")
    with Progress(spent, BarColumn(30), TimeElapsedColumn(), what, console=screen, transient=True) as progress:
        task = progress.add_task("starting", total=1.0)

        def told(name: str, part: float) -> None:
            progress.update(task, completed=part, description=name)

        yield told


def _heading(found: Advice) -> str:
    assert found.chosen is not None  # noqa: S101
    last = found.chosen.points[-1]
    return (
        f"# {found.chosen.candidate.name}: {found.measure} {in_figure(last.scores[found.measure])} for "
        f"{in_bytes(last.wire)} on the wire,\n# by {found.place.clients} clients with {found.place.examples} examples "
        "in all; played without a network by thinwire advise.\n"
    )


def _show(screen: Screen, found: Advice, target: float | None, most: int | None, fleet: Fleet, out: Path) -> None:
    link = () if found.place.link is None else (f"on {fleet.link}",)
    columns = (found.measure, "up", "down", "wire", *link, "rounds", "settings")
    sheet = Sheet("played in full", columns, text=("settings",))
    chosen = [] if found.chosen is None or found.chosen in found.tried else [found.chosen]
    for one in [*chosen, *found.tried]:
        sheet.add_row(*_cells(found, one, timed=bool(link)))
    if found.tried:
        screen.print(sheet)
    for name, why in found.dropped.items():
        screen.print(f"dropped: {name}: {why}")
    if found.untried:
        more = len(found.untried) - UNTRIED_SHOWN
        names = "; ".join(found.untried[:UNTRIED_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        screen.print(f"no time for: {names}. --minutes gives more, and goes on from here")
    if found.chosen is None:
        return
    last = found.chosen.points[-1]
    said = f"{found.measure} {in_figure(last.scores[found.measure])} for {in_bytes(last.wire)}"
    if not found.reached and target is not None:
        screen.print(f"nothing that was tried reaches {target:g}; the nearest: {found.chosen.candidate.name}, {said}")
    elif not found.reached and most is not None:
        screen.print(
            f"nothing tried keeps within {in_bytes(most)}; the thriftiest: {found.chosen.candidate.name}, {said}"
        )
    else:
        screen.print(f"advice: {found.chosen.candidate.name}: {said} in {last.rounds} rounds")
    screen.print(f"written: {out / RUN_FILE}; thinwire run start --model FIRST.safetensors --config {out / RUN_FILE}")


def _cells(found: Advice, one: Tried, *, timed: bool) -> tuple[str, ...]:
    last = one.points[-1]
    time = (f"{last.seconds:.0f} s",) if timed else ()
    mark = "-> " if one is found.chosen else ""
    costs = (in_bytes(last.up), in_bytes(last.down), in_bytes(last.wire))
    return (in_figure(last.scores[found.measure]), *costs, *time, str(last.rounds), mark + one.candidate.name)


def _facts(found: Advice, out: Path) -> dict[str, Any]:
    return {
        "measure": found.measure,
        "reached": found.reached,
        "chosen": None if found.chosen is None else _plain(found, found.chosen),
        "tried": [_plain(found, one) for one in found.tried],
        "dropped": found.dropped,
        "untried": found.untried,
        "run_file": None if found.chosen is None else str(out / RUN_FILE),
    }


def _plain(found: Advice, one: Tried) -> dict[str, Any]:
    curve = [[point.rounds, point.scores.get(found.measure), point.up, point.down] for point in one.points]
    return {"name": one.candidate.name, "settings": plain(one.settings), "curve": curve}
