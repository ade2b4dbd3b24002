"""A run as it goes on, on a terminal or in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from thinwire.machine.text import printable
from thinwire.methods.rounds import Round, rounds_of
from thinwire.protocol.messages import ExchangeMetrics, RunView

from .client import Coordinator
from .console import console
from .tables import round_cells, round_columns, round_table, score_of
from .transport import UnreachableError

PATIENCE_S: Final = 30.0
"""How long a coordinator may be away, restarting, before watching ends."""
WAIT_S: Final = 0.5
LIVE_ROUNDS: Final = 20

Step = Callable[[RunView, list[Round]], None]


Told = Callable[[RunView, list[ExchangeMetrics]], None]
"""The run as it stands, with all closed exchanges."""


def follow(operator: Coordinator, run: str, step: Step, told: Told | None = None) -> RunView:
    """Calls `step`, and `told`, at every change until the run is over. Raises: `UnreachableError`, `ProblemError`, what
    these raise.
    """
    away_since: float | None = None
    while True:
        try:
            for _ in _changes(operator, run):
                view = operator.run(run)
                away_since = None
                exchanges = operator.metrics(run)
                step(view, rounds_of(exchanges, score_of(view)))
                if told is not None:
                    told(view, exchanges)
                if view.state == "finished":
                    return view
        except UnreachableError:
            now = time.monotonic()
            away_since = now if away_since is None else away_since
            if now - away_since > PATIENCE_S:
                raise
        time.sleep(WAIT_S)


def _changes(operator: Coordinator, run: str) -> Iterator[None]:
    """At once, then at every event; ends when the coordinator ends the stream."""
    events = operator.events(run)
    yield None
    for _ in events:
        yield None


def watch(operator: Coordinator, run: str, *, live: bool, told: Told | None = None) -> RunView:
    """The run when it is over; the rounds are shown on standard output, or nowhere. `told`: as of `follow`."""
    if not live:
        return follow(operator, run, lambda _view, _rounds: None, told)
    with shown(console()) as step:
        return follow(operator, run, step, told)


def stands(view: RunView) -> str:
    """Who is missing, or why the run does not go on, in words; "" where it does."""
    if view.waits_for and view.answers < view.cohort:
        return f"waits for {printable(', '.join(view.waits_for))}"
    return "" if view.reason is None else f"{view.state}: {printable(view.reason)}"


def budgeted(view: RunView) -> list[str]:
    """What budgets have changed of the open exchange, a line each."""
    lowered = [] if view.lowered is None else [f"lowered by a budget: {view.lowered}"]
    return lowered + [f"left out: {name}: {printable(why)}" for name, why in (view.left_out or {}).items()]


@contextmanager
def shown(screen: Console) -> Iterator[Step]:
    """Shows rounds as they come: redrawn in place on a terminal, one line each elsewhere."""
    if screen.is_terminal:
        with _drawn(screen) as step:
            yield step
    else:
        yield _lines(screen)


@contextmanager
def _drawn(screen: Console) -> Iterator[Step]:
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=40),
        TextColumn("{task.fields[state]}", markup=False),
        TimeElapsedColumn(),
        console=screen,
    )
    task = bar.add_task("starting", total=None, state="")

    with Live(Group(bar), console=screen, refresh_per_second=4) as live:

        def step(view: RunView, rounds: list[Round]) -> None:
            done = rounds[-1].round
            state = f"{done}/{view.rounds} rounds, "
            state += f"{view.answers}/{view.cohort} answers" if view.state == "running" else view.state
            bar.update(task, description=view.method, total=view.rounds, completed=done, state=state)
            said = "; ".join(filter(None, [stands(view), *budgeted(view)]))
            missing = Text(said, style="dim", overflow="ellipsis", no_wrap=True)
            table = round_table(rounds, view.parameters, last=LIVE_ROUNDS, score=score_of(view))
            live.update(Group(table, bar, missing))

        yield step


def _lines(screen: Console) -> Step:
    run, told, paused = "", 0, ""

    def step(view: RunView, rounds: list[Round]) -> None:
        nonlocal run, told, paused
        if view.id != run:
            run, told = view.id, 0
            screen.print(f"run {view.name}: {view.method}")
        # A round's accuracy is known when the next exchange has closed; without one, when the run is over.
        ready = len(rounds) if view.state == "finished" else len(rounds) - 1
        while told < ready:
            cells = zip(round_columns(score_of(view)), round_cells(rounds[told], view.parameters), strict=True)
            screen.print("  ".join(f"{name} {cell}" for name, cell in cells if cell), soft_wrap=True)
            told += 1
        # Who is missing changes with every answer: a log is told of what stands.
        now = stands(view) if view.state == "paused" else ""
        if now and now != paused:
            screen.print(now, soft_wrap=True)
        paused = now

    return step
