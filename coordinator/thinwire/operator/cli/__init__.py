"""The command `thinwire`, a file for each noun. Here is only its way in, which needs nothing that is installed."""

from __future__ import annotations

from thinwire.protocol.missing import explained


def main() -> None:
    """The console script."""
    with explained("operator"):
        from .app import app
    app()
