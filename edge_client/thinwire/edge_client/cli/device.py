"""What a device does: it joins, says how it stands and what is wrong, gets another token, leaves; `simulate`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer

from thinwire.edge_client.settings import FolderSettings, JoinSettings, PlaceSettings, SimulateSettings, UsageError
from thinwire.machine.reach import MARKS, Finding
from thinwire.machine.text import printable
from thinwire.protocol.command_options import fail
from thinwire.protocol.exit_codes import Exit

from .root import PROGRAM, AsFormat, app, command, told


@command(app)
def join(
    url: Annotated[str, typer.Argument(help="of the coordinator, for example https://coordinator.example:8750")],
    options: JoinSettings,
) -> None:
    """Serve the coordinator's runs until they are over."""
    from thinwire.edge_client.join import serve

    code, message = serve(url, options)
    if message:
        print(f"{PROGRAM}: {message}", file=sys.stderr)
    raise typer.Exit(int(code))


@command(app)
def simulate(options: SimulateSettings) -> None:
    """Play whole runs in this process: settings of runs as lines of JSON in, what came of each as lines of JSON out.

    No coordinator, no network: `thinwire advise` asks this way. The lines are those of `thinwire.protocol.trials`.
    """
    with told():
        from thinwire.edge_client.trials import serve_trials

        serve_trials(options, sys.stdin, sys.stdout)


@command(app)
def rotate(options: PlaceSettings) -> None:
    """Replace this client's token; the old one is worth nothing from now on."""
    from thinwire.edge_client.console import speaker
    from thinwire.edge_client.rotate import rotate as rotate_token

    code, message = rotate_token(options, speaker(options.name or "client", quiet=False))
    if code is not Exit.OK:
        fail(PROGRAM, message, code)
    print(message)


@command(app)
def status(
    options: FolderSettings,
    format_: AsFormat = "text",
) -> None:
    """Say what the client of this device does now, from its folder: no coordinator is asked. Ends with 1 where no
    process works in it.
    """
    from thinwire.edge_client.memory.folder import is_in_use
    from thinwire.edge_client.standing import read_status, status_lines

    try:
        found, runs = read_status(options.folder), is_in_use(options.folder)
    except UsageError as error:
        fail(PROGRAM, str(error), Exit.USAGE)
    except OSError as error:
        fail(PROGRAM, f"{options.folder}: {error.strerror}", Exit.LOCAL)
    if found is None:
        fail(PROGRAM, f"no client has worked in {options.folder}; name it by --name or --data-dir", Exit.USAGE)
    if format_ == "json":
        print(json.dumps({**found.model_dump(), "runs": runs}))
    else:
        for word, said in status_lines(found, runs=runs):
            print(f"{word:<12} {printable(said)}")
    raise typer.Exit(int(Exit.OK if runs else Exit.FAILED))


@command(app)
def leave(options: PlaceSettings) -> None:
    """Be no client any more: the token is worth nothing from now on, there and here."""
    from thinwire.edge_client.console import speaker
    from thinwire.edge_client.leave import leave as leave_coordinator

    code, message = leave_coordinator(options, speaker(options.name or "client", quiet=False))
    if code is not Exit.OK:
        fail(PROGRAM, message, code)
    print(message)


@command(app)
def doctor(
    options: PlaceSettings,
    url: Annotated[
        str | None, typer.Argument(help="of the coordinator; default: the one that this client is of")
    ] = None,
    format_: AsFormat = "text",
) -> None:
    """Look at folder, disk, credentials, name, port, proxy, certificate, clock, coordinator and token, one by one."""
    from thinwire.edge_client.doctor import examine

    found: list[Finding] = []
    try:
        for finding in examine(options.folder, url, options.ca_file):
            found.append(finding)
            if format_ == "text":
                print(f"{MARKS[finding.state]}{finding.check}: {printable(finding.said)}")
                if finding.cure:
                    print(f"       {printable(finding.cure)}")
    except UsageError as error:
        fail(PROGRAM, str(error), Exit.USAGE)
    if format_ == "json":
        print(json.dumps({"findings": [asdict(finding) for finding in found]}, indent=2))
    raise typer.Exit(int(Exit.FAILED if any(finding.state == "wrong" for finding in found) else Exit.OK))
