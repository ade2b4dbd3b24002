"""The command `thinwire-client`, a file for each noun. Torch is loaded only by the commands that need it."""

from __future__ import annotations

from thinwire.protocol.missing import explained

with explained("client", "thinwire-client"):
    from thinwire.protocol.command_options import add_examples

    from . import device, fleets, models, tasks
    from .examples import EXAMPLES
    from .root import PROGRAM, app

__all__ = ["app", "device", "fleets", "main", "models", "tasks"]

add_examples(app, EXAMPLES, PROGRAM)


def main() -> None:
    """The console script."""
    with explained("client", PROGRAM):
        app()
