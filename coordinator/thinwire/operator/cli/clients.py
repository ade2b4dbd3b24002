"""`thinwire client`: invite, invites, void, list, show, rename, revoke, delete; `thinwire rotate-token`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer
from pydantic import ValidationError

from thinwire.machine.quantities import in_bytes
from thinwire.machine.text import printable
from thinwire.operator import requests
from thinwire.operator.console import console, in_count, in_time, say
from thinwire.operator.sheet import Sheet
from thinwire.protocol.command_options import invalid
from thinwire.protocol.exit_codes import Exit

from .options import Address, AsFormat, Format, fail, operator, print_json, with_options, write_secret

app = typer.Typer(help="Invite, accept, list, name, revoke and delete clients.", no_args_is_help=True)
ClientName = Annotated[str, typer.Argument(metavar="CLIENT", help="its name, or what people call it")]


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
    columns = ("client", "called", "group", "role", "last request", "state")
    shown = Sheet(None, columns, text=columns)
    for client in found.clients:
        state = "revoked" if client.revoked else ""
        shown.add_row(client.client, client.label or "", client.group, client.role, in_time(client.seen_at), state)
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
def show(client: ClientName, *, at: Address, format_: AsFormat = Format.TABLE) -> None:
    """One client: how it is, what it has cost, and what became of its latest tasks."""
    with operator(at) as coordinator:
        text = coordinator.text(f"/clients/{quote(client, safe='')}.json", "application/json")
    found: dict[str, Any] = json.loads(text)
    if format_ is Format.JSON:
        print_json(found)
        return
    one, screen = found["client"], console()
    label = f", called {one['label']}" if one.get("label") else ""
    about = f"{one['role']} of group {one['group']}, version {one.get('version', 'unknown')}"
    screen.print(f"{one['client']}{label}: {one['word']}, {about}")
    screen.print(f"last request {in_time(one.get('seen_at'))}, enrolled {in_time(one['enrolled_at'])}")
    sizes = {"today": "today_bytes", "up": "uplink_bytes", "down": "downlink_bytes", "resumed": "resumed_bytes"}
    said = ", ".join(f"{name} {in_bytes(one[key])}" for name, key in sizes.items())
    screen.print(f"{said}, {one['breaks']} break(s)")
    kinds = Sheet(None, ("kind", "requests", "up payload", "framing", "down payload", "framing"), text=("kind",))
    for row in found["kinds"]:
        counts = ("requests", *(f"{way}link_{part}_bytes" for way in ("up", "down") for part in ("payload", "framing")))
        kinds.add_row(row["kind"], *(in_count(row[name]) for name in counts))
    screen.print(kinds)
    columns = ("run", "round", "kind", "came to", "why", "begun")
    turns = Sheet(None, columns, text=set(columns) - {"round"})
    for row in found["turns"]:
        begun = in_time(row.get("opened_at"))
        turns.add_row(row["run"], str(row["round"]), row["kind"], row["state"], row["why"], begun)
    screen.print(turns)


@app.command()
@with_options
def rename(
    client: ClientName,
    label: Annotated[str | None, typer.Argument(metavar="[LABEL]", help="default: its name again")] = None,
    *,
    at: Address,
) -> None:
    """Call a client otherwise from now on. Its name stays: token, share of the data and bytes are bound to it."""
    with operator(at) as coordinator:
        try:
            coordinator.rename(client, label)
        except ValidationError as error:
            fail(invalid(error), Exit.USAGE)
    say(f"{client} is called {label or 'by its name'}")


@app.command()
@with_options
def revoke(
    client: ClientName,
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


@app.command()
@with_options
def delete(client: ClientName, *, at: Address) -> None:
    """Revoke a client and take it out of every list; its bytes, and its name in histories, stay."""
    with operator(at) as coordinator:
        coordinator.delete_client(client)
    say(f"{client} is deleted")


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
