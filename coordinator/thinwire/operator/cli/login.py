"""`thinwire login`, `thinwire logout`: a token for this person, kept, so that commands elsewhere need none."""

from __future__ import annotations

import getpass
import os
import re
import secrets
import socket
import sys
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import typer

from thinwire.operator.access import Login, NoAddressError, kept_logins, read_token
from thinwire.operator.client import Coordinator
from thinwire.operator.console import say
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.identity import NAME
from thinwire.protocol.messages import Enrolled, Enrolment
from thinwire.protocol.places import on_this_machine

from .options import fail, failures_told

INVITE_VARIABLE: Final = "THINWIRE_INVITE"
_LONGEST_NAME: Final = 64


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="of the coordinator")],
    *,
    invite_file: Annotated[
        Path | None,
        typer.Option(help="with an invite for an operator or a reader; or set THINWIRE_INVITE, or type it when asked"),
    ] = None,
    token_file: Annotated[Path | None, typer.Option(help="with a token that there is already, instead")] = None,
    name: Annotated[str | None, typer.Option(help="known by it there; default: USER-HOST")] = None,
    ca_file: Annotated[Path | None, typer.Option(help="certificates to trust instead of the system's")] = None,
) -> None:
    """Keep a token for a coordinator elsewhere: by an invite of role operator or reader, or a token file."""
    found = url.rstrip("/")
    parts = urlsplit(found)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        fail(f"{url}: write http://HOST:PORT or https://HOST", Exit.USAGE)
    if name is not None and not NAME.fullmatch(name):
        fail(f"--name {name}: letters, digits, '.', '_' and '-', {_LONGEST_NAME} at most", Exit.USAGE)
    if parts.scheme == "http" and not on_this_machine(parts.hostname):
        print("thinwire: warning: http carries the token readable to everybody on the way", file=sys.stderr)
    ca_file = None if ca_file is None else ca_file.absolute()
    with failures_told():
        try:
            if token_file is not None:
                made = Login(url=found, token=read_token(token_file), ca_file=ca_file)
            else:
                made = _redeem(found, _invite(invite_file), name or _usual_name(), ca_file)
                kept_logins().keep(made)
            asking = Coordinator(found, made.token, ca_file=ca_file)
        except NoAddressError as error:
            fail(str(error), Exit.USAGE)
        try:
            asking.clients()
        finally:
            asking.close()
        if token_file is not None:
            kept_logins().keep(made)
    who = "" if made.name is None else f" as {made.name} ({made.role})"
    say(f"logged in at {found}{who}; the token is kept in {kept_logins().path}")


def logout(
    url: Annotated[str | None, typer.Argument(metavar="[URL]", help="default: where one logged in last")] = None,
) -> None:
    """Forget the token kept for a coordinator. It stays good there until `thinwire client revoke`."""
    with failures_told():
        try:
            known = kept_logins().all()
            where = url.rstrip("/") if url is not None else known[0].url if known else None
            if where is None or not kept_logins().forget(where):
                fail(f"no login is kept{'' if where is None else f' for {where}'}", Exit.USAGE)
        except NoAddressError as error:
            fail(str(error), Exit.USAGE)
    say(f"logged out of {where}")


def _redeem(url: str, invite: str, name: str, ca_file: Path | None) -> Login:
    asking = Coordinator(url, None, ca_file=ca_file)
    try:
        wanted = Enrolment(invite=invite, name=name, nonce=secrets.token_bytes(16))
        enrolled = asking.ask("POST", "/v1/clients", Enrolled, wanted)
    finally:
        asking.close()
    if enrolled.role not in ("operator", "reader"):
        # The token is not used, so the same invite still gives one to this name.
        fail(
            f"this invite is a device's ({enrolled.role}): thinwire-client join {url} --name {enrolled.client} "
            "--invite-file FILE; the invite stays good for this name",
            Exit.REFUSED,
        )
    return Login(url=url, token=enrolled.token, name=enrolled.client, role=enrolled.role, ca_file=ca_file)


def _invite(file: Path | None) -> str:
    """Never from the command line, which every process of the machine can read."""
    if file is not None:
        return read_token(file)
    if INVITE_VARIABLE in os.environ:
        return os.environ[INVITE_VARIABLE].strip()
    if not sys.stdin.isatty():
        fail(f"give --invite-file or --token-file, or set {INVITE_VARIABLE}", Exit.USAGE)
    return getpass.getpass("invite: ").strip()


def _usual_name() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # an account without a name
        user = "operator"
    letters = re.sub(r"[^A-Za-z0-9._-]+", "-", f"{user}-{socket.gethostname()}")
    return letters.lstrip("._-")[:_LONGEST_NAME] or "operator"
