"""Many clients on one machine, to try a coordinator, a method or a link with them."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from thinwire.edge_client.fleet.settings import FleetSettings

from .root import PROGRAM, app, command


@command(app)
def fleet(
    url: Annotated[str, typer.Argument(help="of the coordinator, for example http://127.0.0.1:8750")],
    options: FleetSettings,
) -> None:
    """Be many clients at once, in few processes, over real connections: until the coordinator's runs are over.

    Each has a name, a folder, a share of the data and a connection of its own, and speaks as `join` does.
    """
    from thinwire.edge_client.fleet.command import lead_fleet

    code, message = lead_fleet(url, options)
    if message:
        print(f"{PROGRAM}: {message}", file=sys.stderr)
    raise typer.Exit(int(code))
