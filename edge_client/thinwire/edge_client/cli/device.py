"""What a device does: it joins, and gets another token; `simulate` plays many of them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from thinwire.edge_client.settings import JoinSettings, PlaceSettings, SimulateSettings
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
