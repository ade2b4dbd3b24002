"""`thinwire plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinwire.codecs import Arrays
from thinwire.machine.link_rates import LinkRates, parse_link
from thinwire.machine.quantities import in_bytes
from thinwire.methods.model_file import read_model
from thinwire.methods.registry import method_ids
from thinwire.operator.console import console
from thinwire.operator.plan import Budget, Planned, Span, plain, plan
from thinwire.operator.sheet import Sheet
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

from .options import AsFormat, Assigned, Format, fail, print_json, with_options
from .run_settings import run_settings

COLUMNS = ("rounds", "up, each client", "down, each client", "all clients")


@with_options
def plan_command(
    model: Annotated[Path, typer.Option("--model", help="safetensors file to start from")],
    *,
    config: Annotated[Path | None, typer.Option("--config", help="run.toml")] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="once or more; default: that of --config or --set, else every one"),
    ] = None,
    clients: Annotated[int | None, typer.Option(min=1, help="of the fleet; default: the run's cohort")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="instead of the run's")] = None,
    link: Annotated[str | None, typer.Option(help="4g, 3g, nb-iot, satellite, or RATE,RTT,LOSS; for times")] = None,
    fetched: Annotated[
        bool, typer.Option("--fetch-first", help="clients do not make the first model themselves: all fetch it")
    ] = False,
    assigned: Assigned,
    format_: AsFormat = Format.TABLE,
) -> None:
    """Say what a run will cost on the wire, and how long its transfers take, before anything is sent.

    Computed here from the model file and the settings: no coordinator is asked, no client, no data. Chains whose
    payloads follow from shapes alone give figures; those that compress give a range.
    """
    rates = None if link is None else _rates(link)
    arrays = _model(model)
    one_run = config is not None or bool(assigned.set_)
    methods: list[str | None] = [None] if one_run else [*method_ids()]
    if method:
        methods = [*method]
    found: list[Planned] = []
    refused: dict[str, str] = {}
    for name in methods:
        run = _settings(config, assigned, name, rounds, clients)
        fleet = run.cohort if clients is None else clients
        if fleet < run.cohort:
            fail(f"--clients {fleet}: the run wants a cohort of {run.cohort}", Exit.USAGE)
        try:
            found.append(plan(run, arrays, fleet, rates, own_first=not fetched))
        except ProblemError as error:
            if len(methods) == 1:
                fail(f"{error.reason}: {error.detail}", Exit.USAGE)
            refused[run.method] = error.detail
    if format_ is Format.JSON:
        print_json({"runs": [plain(one) for one in found], "refused": refused})
        return
    screen = console()
    screen.print(_rounds(found[0], link) if len(methods) == 1 else _methods(found, link))
    for name, why in refused.items():
        screen.print(f"not {name}: {why}")
    for one in found:
        for budget in one.budgets:
            screen.print(f"{one.run.method}: {_said(budget)}")


def _rates(link: str) -> LinkRates:
    try:
        return parse_link(link)
    except ValueError as error:
        fail(f"--link: {error}", Exit.USAGE)


def _model(path: Path) -> Arrays:
    if not path.is_file():
        fail(f"--model {path}: there is no such file", Exit.USAGE)
    try:
        return read_model(path)
    except (ProblemError, OSError) as error:
        fail(f"--model {path}: {error}", Exit.USAGE)


def _settings(
    config: Path | None, assigned: Assigned, method: str | None, rounds: int | None, clients: int | None
) -> RunSettings:
    over = [] if method is None else [f"method={method}"]
    over += [] if rounds is None else [f"rounds={rounds}"]
    return run_settings(config, [*assigned.set_, *over], {} if clients is None else {"cohort": clients})


def _rounds(one: Planned, link: str | None) -> Sheet:
    run = one.run
    made = Sheet(
        f"{run.method}, {run.rounds} rounds, {one.asked} clients in each", _columns(COLUMNS, link), text=("rounds",)
    )
    each = (one.asked, one.asked)
    if one.known > one.asked:
        made.caption = f"each client: of the {one.asked} that are asked; in the whole run: one that is asked every time"
    made.add_row("registration, plans", *_cells(one.begins, link, (one.asked, one.known)))
    for name, count, span in one.rounds:
        made.add_row(f"{name}, each" if count > 1 else name, *_cells(span, link, each))
    made.add_section()
    made.add_row("the whole run", *_cells(one.total, link, (one.asked, one.asked)))
    return made


def _methods(found: list[Planned], link: str | None) -> Sheet:
    made = Sheet("the whole run, by method", _columns(("method", *COLUMNS[1:]), link), text=("method",))
    for one in found:
        made.add_row(one.run.method, *_cells(one.total, link, (one.asked, one.asked)))
    return made


def _columns(columns: tuple[str, ...], link: str | None) -> tuple[str, ...]:
    return columns if link is None else (*columns, f"on {link}")


def _cells(span: Span, link: str | None, clients: tuple[int, int]) -> tuple[str, ...]:
    """`clients`: among whom the least and the most are divided."""
    low, high, (few, many) = span.least, span.most, clients
    cells = (
        _between(in_bytes(low.up / few), in_bytes(high.up / many)),
        _between(in_bytes(low.down / few), in_bytes(high.down / many)),
        _between(in_bytes(low.wire), in_bytes(high.wire)),
    )
    return cells if link is None else (*cells, _between(f"{low.seconds:.1f} s", f"{high.seconds:.1f} s"))


def _between(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _said(one: Budget) -> str:
    """`the dearest round of one client, 31 kB, does not fit within max-bytes-per-round, 20 kB`."""
    whole = "the whole run" if one.rounds is None else "the whole run of one client asked every time"
    what = "the dearest round of one client" if one.name.endswith("round") else whole
    needs = _between(*map(in_bytes, one.needs))
    words = {"yes": "fits within", "no": "does not fit within", "perhaps": "may not fit within"}[one.fits]
    period = one.name.rpartition("-")[2]
    lasts = f"; it lasts for {one.rounds} rounds a {period}" if one.fits != "yes" and period in ("day", "month") else ""
    return f"{what}, {needs}, {words} {one.name}, {in_bytes(one.most)}{lasts}"
