"""`thinwire serve`: the service's own command, which nothing else of this program loads."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import typer

from thinwire.protocol.missing import explained

SERVICE: Final = "thinwire.coordinator.command"
PASSED_ON: Final = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Its options are the service's, `--help` among them."""


def serve(context: typer.Context) -> None:
    """Run a coordinator until Ctrl-C or SIGTERM; started again with the same folder, it goes on."""
    with explained("coordinator"):
        import_module(SERVICE).app(context.args, prog_name=context.command_path)
