"""What a run came to, read back, and what several seeds say together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from thinwire.machine.quantities import in_bytes
from thinwire.methods.rounds import Round, accuracy_of, evaluation_of, rounds_of
from thinwire.methods.values import EVALUATE
from thinwire.protocol.messages import ExchangeMetrics


@dataclass(frozen=True)
class Outcome:
    """A stored cell, read back."""

    plain: Mapping[str, Any]

    @cached_property
    def exchanges(self) -> list[ExchangeMetrics]:
        return [ExchangeMetrics.model_validate(one) for one in self.plain["exchanges"]]

    @cached_property
    def rounds(self) -> list[Round]:
        return rounds_of(self.exchanges)

    @property
    def parameters(self) -> int:
        return int(self.plain["parameters"])

    @property
    def accuracy(self) -> float:
        """Of the final model, as the evaluation after the last round found it; NaN where nobody measured it."""
        last = evaluation_of(self.exchanges)
        found = None if last is None else accuracy_of(last.metrics)
        return math.nan if found is None else found

    def metric(self, name: str) -> float:
        """Of the evaluation after the last round."""
        last = evaluation_of(self.exchanges)
        return math.nan if last is None else last.metrics.get(name, math.nan)

    @property
    def best(self) -> float:
        return max((one.accuracy for one in self.rounds if one.accuracy is not None), default=math.nan)

    @property
    def uplink(self) -> int:
        return sum(one.cost.uplink for one in self.rounds)

    @property
    def downlink(self) -> int:
        return sum(one.cost.downlink for one in self.rounds)

    @property
    def wire(self) -> int:
        return self.uplink + self.downlink

    @property
    def everything(self) -> int:
        """Wire bytes of all exchanges, the evaluation after the last round among them."""
        return sum(one.uplink_bytes + one.downlink_bytes for one in self.exchanges)

    def rate(self, direction: Literal["up", "down"], rounds: slice = slice(None)) -> float:
        """Payload bits per parameter and answer, without framing, over some exchanges of training."""
        trained = [one for one in self.exchanges if one.kind != EVALUATE][rounds]
        sizes = [one.uplink_payload_bytes if direction == "up" else one.downlink_payload_bytes for one in trained]
        return 8 * sum(sizes) / (sum(one.answers for one in trained) * self.parameters)

    @property
    def curve(self) -> list[tuple[int, float]]:
        """Wire bytes of the run when a round's model was complete, and the accuracy of that model."""
        return [(one.total_bytes, one.accuracy) for one in self.rounds if one.accuracy is not None]

    def bytes_to(self, accuracy: float) -> int | None:
        """Wire bytes until the first model of that accuracy; None if there was none."""
        return next((cost for cost, reached in self.curve if reached >= accuracy), None)


@dataclass(frozen=True, slots=True)
class Mean:
    """Of a figure over seeds; `error`: its standard error, NaN for one seed."""

    value: float
    error: float
    seeds: int

    @staticmethod
    def of(values: Sequence[float]) -> Mean:
        count = len(values)
        mean = sum(values) / count if count else math.nan
        if count < 2:
            return Mean(mean, math.nan, count)
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (count - 1))
        return Mean(mean, spread / math.sqrt(count), count)

    def __str__(self) -> str:
        return f"{self.value:.4f}" if math.isnan(self.error) else f"{self.value:.4f} ± {self.error:.4f}"


def difference(first: Sequence[Outcome], second: Sequence[Outcome]) -> Mean:
    """Of final accuracies, seed by seed."""
    return Mean.of([a.accuracy - b.accuracy for a, b in zip(first, second, strict=False)])


def not_worse(gap: Mean) -> bool:
    """By not more than one point, or two standard errors where they are more."""
    return gap.value >= -max(0.01, 0.0 if math.isnan(gap.error) else 2 * gap.error)


def sized(outcomes: Sequence[Outcome]) -> tuple[str, str]:
    """Mean wire bytes up and down, as text."""
    return (
        in_bytes(round(Mean.of([one.uplink for one in outcomes]).value)),
        in_bytes(round(Mean.of([one.downlink for one in outcomes]).value)),
    )
