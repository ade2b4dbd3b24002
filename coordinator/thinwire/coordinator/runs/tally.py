"""What this process has seen of its runs since it started: what became of answers, and how long exchanges took."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Final, Literal

Outcome = Literal["accepted", "refused", "late", "declined"]
BOUNDS_S: Final = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 24 * 3600.0, 7 * 24 * 3600.0)
"""Upper bounds of the classes of seconds; a last one has none."""


@dataclass(slots=True)
class Durations:
    """How many took so long, class by class, and all their seconds together."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.seconds += seconds

    def cumulated(self) -> list[tuple[str, int]]:
        """Each bound, as Prometheus writes it, and how many took no longer."""
        total, found = 0, []
        for bound, count in zip((*map(repr, BOUNDS_S), "+Inf"), self.counts, strict=True):
            total += count
            found.append((bound, total))
        return found


@dataclass(slots=True)
class Tally:
    """By the run's id. `answered_at`: when the last answer was decided on, Unix seconds."""

    answers: dict[str, Counter[Outcome]] = field(default_factory=lambda: defaultdict(Counter))
    answered_at: dict[str, float] = field(default_factory=dict)
    exchanges: dict[str, Durations] = field(default_factory=lambda: defaultdict(Durations))

    def answer(self, run: str, outcome: Outcome, at: float) -> None:
        """One answer, or the word that none will come."""
        self.answers[run][outcome] += 1
        if outcome != "declined":
            self.answered_at[run] = at
