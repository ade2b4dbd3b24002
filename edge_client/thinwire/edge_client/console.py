"""What a person at the device reads: one line per exchange."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

Say = Callable[[str], None]


def speaker(name: str, *, quiet: bool) -> Say:
    """Writes lines to standard error, each with the time and the client's name; `quiet`: nothing."""

    def say(line: str) -> None:
        if not quiet:
            print(f"{datetime.now(UTC):%H:%M:%S} {name}  {line}", file=sys.stderr, flush=True)

    return say


def in_words(metrics: Mapping[str, float]) -> str:
    """The metrics that a person wants to see, in a fixed order, `examples` and `seconds` left out."""
    shown = [name for name in ("loss", "accuracy") if name in metrics]
    shown += sorted(set(metrics) - {"loss", "accuracy", "examples", "seconds"})
    return " ".join(f"{name} {metrics[name]:.4g}" for name in shown)
