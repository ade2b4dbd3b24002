"""What time it is, as an argument."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """`monotonic`: seconds that no setting of the clock moves, for what lasts; `wall`: Unix seconds, for rows."""

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
