"""`thinwire client`: invite, invites, void, list, revoke; `thinwire rotate-token`."""

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

from .options import Address, AsFormat, Format, fail, operator, print_json, with_options, write_secret

app = typer.Typer(help="Invite, list and revoke clients.", no_args_is_help=True)


class RoleName(StrEnum):
    """What an invited client may do."""

    CLIENT = "client"
    EVALUATOR = "evaluator"
    READER = "reader"
    OPERATOR = "operator"


@app.command()
@with_options
def invite(
    *,
    uses: Annotated[int, typer.Option(min=1, help="how many clients may enrol with it")] = 1,
    group: Annotated[str, typer.Option(help="group that the clients belong to")] = "default",
    role: Annotated[RoleName, typer.Option(help="client, evaluator; for people: reader, operator")] = RoleName.CLIENT,
    expires_in: Annotated[float | None, typer.Option(help="seconds until it is worth nothing")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="write the code to this file, mode 0600")] = None,
    at: Address,
    format_: AsFormat = Format.TABLE,
) -> None:
    """Make an invite; its code is shown once."""
    with operator(at) as coordinator:
        try:
            made = coordinator.invite(role=role.value, group=group, uses=uses, expires_in_s=expires_in)
        except ValidationError as error:
            fail(invalid(error), Exit.USAGE)
        if out is not None:
            write_secret(out, made.invite)
    if format_ is Format.JSON:
        print_json(made)
    elif out is None:
        say(made.invite)
    else:
        say(f"{out}: for {made.uses} client(s) of group {made.group}")


@app.command()
@with_options
def invites(at: Address, format_: AsFormat = Format.TABLE) -> None:
    """Invites that have not expired, by the digits that name them."""
    with operator(at) as coordinator:
        found = coordinator.send(requests.invites())
    if format_ is Format.JSON:
        print_json(found)
        return
    columns = ("invite", "group", "role", "uses left", "expires")
    shown = Sheet(None, columns, text=set(columns) - {"uses left"})
    for one in found.invites:
        expires = "never" if one.expires_at is None else in_time(one.expires_at)
        shown.add_row(one.invite, one.group, one.role, in_count(one.uses_left), expires)
    console().print(shown)


@app.command()
@with_options
def void(
    invite: Annotated[str, typer.Argument(help="the digits that name it, as `thinwire client invites` shows them")],
    *,
    at: Address,
) -> None:
    """Make an invite worth nothing. Whoever has enrolled with it stays."""
    with operator(at) as coordinator:
        coordinator.void(invite)
    say(f"the invite {invite} is void")


@app.command("list")
@with_options
def list_(at: Address, format_: AsFormat = Format.TABLE) -> None:
    """All clients, by name."""
    with operator(at) as coordinator:
        found = coordinator.send(requests.clients())
    if format_ is Format.JSON:
        print_json(found)
        return
    columns = ("client", "group", "role", "last request", "state")
    shown = Sheet(None, columns, text=columns)
    for client in found.clients:
        state = "revoked" if client.revoked else ""
        shown.add_row(client.client, client.group, client.role, in_time(client.seen_at), state)
    console().print(shown)


@app.command()
@with_options
def log(
    client: Annotated[str, typer.Argument(help="the client's name")], *, at: Address, format_: AsFormat = Format.TABLE
) -> None:
    """The latest lines that a client has sent: behind a failure, or as its own --log says."""
    with operator(at) as coordinator:
        found = coordinator.send(requests.client_log(client))
    if format_ is Format.JSON:
        print_json(found)
        return
    for line in found.lines:
        say(f"{in_time(line.at)}  {printable(line.said)}")
    if not found.lines:
        say(f"{client} has sent no lines")


@app.command()
@with_options
def revoke(
    client: Annotated[str, typer.Argument(help="the client's name")],
    *,
    with_invite: Annotated[
        bool, typer.Option("--with-invite", help="the invite it came with is worth nothing either")
    ] = False,
    at: Address,
) -> None:
    """Make a client's token worth nothing."""
    with operator(at) as coordinator:
        coordinator.revoke(client, with_invite=with_invite)
    say(f"{client} is revoked")


@with_options
def rotate_token(
    *,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="write the token to this file, mode 0600")] = None,
    at: Address,
) -> None:
    """Replace the operator's token; the old one is worth nothing from now on."""
    with operator(at) as coordinator:
        token = coordinator.rotate_operator_token()
        if out is not None:
            write_secret(out, token)
    say(f"the new token is in the coordinator's data folder{'' if out is None else f', and in {out}'}")
