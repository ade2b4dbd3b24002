"""The command `thinwire-client`, a file for each noun. Torch is loaded only by the commands that need it."""

from __future__ import annotations

from . import device, fleets, models, tasks
from .root import app

__all__ = ["app", "device", "fleets", "main", "models", "tasks"]


def main() -> None:
    """The console script."""
    app()
