"""What answers say beside their arrays, and its means."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final

from thinwire.methods.progress import UNCHECKED

_LARGEST: Final = 1e30
"""Of a metric: sums stay finite, whatever one client reports."""


@dataclass(frozen=True, slots=True)
class Told:
    """What an accepted answer said: the examples it stands for, and its metrics."""

    examples: int
    metrics: Mapping[str, float]


def weighted_metrics(told: Collection[Told], most: int) -> dict[str, float]:
    """Means over answers, weighted by the examples that were evaluated (`examples` of the metrics, summed here), or
    else by the examples trained on; by at most `most`, for a client says what it likes.
    """
    sums: dict[str, float] = {}
    weights: dict[str, float] = {}
    for one in sorted(told, key=lambda item: (item.examples, sorted(item.metrics.items()))):
        weight = _weight(one, most)
        for name, value in one.metrics.items():
            if name == "examples":
                continue
            sums[name] = sums.get(name, 0.0) + weight * min(max(value, -_LARGEST), _LARGEST)
            weights[name] = weights.get(name, 0.0) + weight
    means = {name: sums[name] / weights[name] for name in sorted(sums) if weights[name] > 0}
    if UNCHECKED in means:
        # A mean of marks says nothing; a client of before has none, and says 1.
        marks = {one.metrics[UNCHECKED] for one in told if one.metrics.get(UNCHECKED, 1.0) != 1.0}
        means[UNCHECKED] = 2.0 if len(marks) > 1 else 1.0
    evaluated = [_weight(one, most) for one in told if "examples" in one.metrics]
    return {**means, "examples": math.fsum(evaluated)} if evaluated else means


def _weight(told: Told, most: int) -> float:
    return min(max(told.metrics.get("examples", float(told.examples)), 0.0), float(most))
