"""What a device does: it joins, says how it stands, gets another token; `simulate` plays many of them."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Literal

import typer

from thinwire.edge_client.settings import FolderSettings, JoinSettings, PlaceSettings, SimulateSettings, UsageError
from thinwire.machine.text import printable
from thinwire.protocol.command_options import fail
from thinwire.protocol.exit_codes import Exit

from .root import PROGRAM, app, command, told


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
    format_: Annotated[Literal["text", "json"], typer.Option("--format", help="text or json")] = "text",
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
