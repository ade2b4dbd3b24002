"""`thinwire serve` and `thinwire relay`: the services' own commands, which nothing else of this program loads."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import typer

from thinwire.protocol.missing import explained

SERVICE: Final = "thinwire.coordinator.command"
RELAY: Final = "thinwire.relay.command"
PASSED_ON: Final = {"allow_extra_args": True, "ignore_unknown_options": True}
"""Their options are the services', `--help` among them."""


def serve(context: typer.Context) -> None:
    """Run a coordinator until Ctrl-C or SIGTERM; started again with the same folder, it goes on."""
    with explained("coordinator"):
        import_module(SERVICE).app(context.args, prog_name=context.command_path)


def relay(context: typer.Context) -> None:
    """Stand between a coordinator and many devices behind one thin link: payloads cross it once."""
    with explained("coordinator"):
        import_module(RELAY).app(context.args, prog_name=context.command_path)
