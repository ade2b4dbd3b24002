"""`thinwire webhook`: add, list, remove, test."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from thinwire.machine.text import printable
from thinwire.operator import requests
from thinwire.operator.console import console, in_count, in_time, say
from thinwire.operator.sheet import Sheet
from thinwire.protocol.command_options import invalid
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.fields import EventKind

from .options import Address, AsFormat, Format, fail, operator, print_json, with_options, write_secret

app = typer.Typer(help="Have the coordinator tell other programs what happens.", no_args_is_help=True)
Named = Annotated[str, typer.Argument(metavar="WEBHOOK", help="its id, as `thinwire webhook list` shows it")]


class Kind(StrEnum):
    """What may be told."""

    RUN = "run"
    EXCHANGE = "exchange"
    ANSWER = "answer"


@app.command()
@with_options
def add(
    address: Annotated[
        str, typer.Argument(metavar="URL", help="https://...; http:// only on the coordinator's own machine")
    ],
    *,
    kind: Annotated[list[Kind] | None, typer.Option(help="of events, once or more; default: run and exchange")] = None,
    run: Annotated[str | None, typer.Option(help="of this run alone, by name; default: of all")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="write the secret to this file, mode 0600")] = None,
    at: Address,
    format_: AsFormat = Format.TABLE,
) -> None:
    """Tell an address of runs' events; the secret that signs the messages is shown once."""
    kinds: list[EventKind] = [one.value for one in kind or (Kind.RUN, Kind.EXCHANGE)]
    try:
        request = requests.add_webhook(address, kinds, run)
    except ValidationError as error:
        fail(invalid(error), Exit.USAGE)
    with operator(at) as coordinator:
        made = coordinator.send(request)
        if out is not None:
            write_secret(out, made.secret)
    if format_ is Format.JSON:
        print_json(made)
    else:
        say(f"webhook {made.webhook}: {made.secret if out is None else f'its secret is in {out}'}")


@app.command("list")
@with_options
def list_(at: Address, format_: AsFormat = Format.TABLE) -> None:
    """All webhooks, and what became of their messages."""
    with operator(at) as coordinator:
        found = coordinator.send(requests.webhooks())
    if format_ is Format.JSON:
        print_json(found)
        return
    columns = ("webhook", "url", "kinds", "run", "last", "failures", "said")
    shown = Sheet(None, columns, text=set(columns) - {"last", "failures"})
    for one in found.webhooks:
        again = "" if one.next_at is None else f"{printable(one.said or '')}; again at {in_time(one.next_at)}"
        counts = in_count(one.last), in_count(one.failures)
        shown.add_row(one.webhook, printable(one.url), ", ".join(one.kinds), one.run or "all", *counts, again)
    console().print(shown)


@app.command()
@with_options
def remove(webhook: Named, *, at: Address) -> None:
    """Tell a webhook nothing any more."""
    with operator(at) as coordinator:
        coordinator.order(requests.remove_webhook(webhook))
    say(f"the webhook {webhook} is removed")


@app.command("test")
@with_options
def try_(webhook: Named, *, at: Address, format_: AsFormat = Format.TABLE) -> None:
    """Send a message of kind `test`, and say what became of it; exit code 1 where it was not taken."""
    with operator(at) as coordinator:
        found = coordinator.send(requests.test_webhook(webhook))
    if format_ is Format.JSON:
        print_json(found)
    if not found.taken:
        fail(f"the webhook {webhook} did not take the message: {printable(found.said or '')}", Exit.FAILED)
    if format_ is Format.TABLE:
        say(f"the webhook {webhook} took the message")
