"""Rounds as a person thinks of them, from the exchanges of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import ExchangeMetrics

from .values import EVALUATE

TARGET_SHARE: Final = 0.98
ACCURACY: Final = "accuracy"
_NO_SCORES: Final = frozenset(
    {
        "accuracy", "dice", "loss", "personal_accuracy", "examples", "seconds", "unmoved", "not_finite", "diverging",
        "stage", "density", "bpp_array",
    }
)  # fmt: skip
"""What every client says, and what methods say of an answer."""
_LOWER: Final = ("loss", "error", "err", "mse", "rmse", "mae", "mape", "perplexity", "nll", "distance")
"""Words of a score's name that say that less of it is better."""


@dataclass(slots=True)
class Round:
    """One round. `accuracy`, `loss`: of the model that it made, measured by the exchange after it; None before. Of a
    method without global model: means over the clients' own models, on the same test examples; `personal_accuracy`: the
    mean on test examples distributed like each client's own, another figure. None for methods that do not measure it.
    Where the targets are maps, `accuracy` is the mean Dice coefficient. `scores`: what else the clients measured of
    that model, by the names that the task gives.

    `lost`: what the clients measured of it was no number, where other rounds have one. `cost`: bytes and seconds of its
    exchanges; `total_bytes`: wire bytes of the run up to the end of this round, both directions. Round 0 is the first
    model, which cost nothing; the evaluation after the last round has bytes of its own in no round.
    """

    round: int
    accuracy: float | None = None
    loss: float | None = None
    personal_accuracy: float | None = None
    lost: bool = False
    cost: Bytes = field(default_factory=Bytes)
    total_bytes: int = 0
    answers: int = 0
    scores: dict[str, float] = field(default_factory=dict)

    def measure(self, score: str) -> float | None:
        """Accuracy, loss, or one of the task's own, with or without a `-` before it; None where it was not measured."""
        known = {ACCURACY: self.accuracy, "loss": self.loss, "personal_accuracy": self.personal_accuracy}
        name = score.removeprefix("-")
        return known.get(name, self.scores.get(name))

    def bits_per_parameter(self, parameters: int) -> tuple[float, float]:
        """Payload bits that an answer, and the broadcast it answered, cost per parameter of the model: up, down."""
        return payload_bits([self], parameters)

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "round": self.round,
            "accuracy": self.accuracy,
            "loss": self.loss,
            "personal_accuracy": self.personal_accuracy,
            "not_finite": self.lost,
            "uplink_bytes": self.cost.uplink,
            "downlink_bytes": self.cost.downlink,
            "uplink_payload_bytes": self.cost.uplink_payload,
            "downlink_payload_bytes": self.cost.downlink_payload,
            "total_bytes": self.total_bytes,
            "seconds": self.cost.seconds,
            "answers": self.answers,
            "framing_bytes": self.cost.framing,
            "scores": self.scores,
        }


def own_score(best: str | None) -> str | None:
    """The first score that a run's setting `best` names, where it is one of the task's own: it stands in the place of
    accuracy wherever rounds are shown.
    """
    first = (best or "").split(",")[0].removeprefix("-")
    return None if first in ("", "none", "accuracy", "dice", "loss") else first


def rounds_of(exchanges: Iterable[ExchangeMetrics], score: str | None = None) -> list[Round]:
    """Round 0 and one per round that has begun to close, in order. `score`: a figure of the clients' own that stands in
    the place of accuracy.
    """
    rounds = [Round(0)]
    for exchange in exchanges:
        last = rounds[-1]
        before = exchange.uplink_bytes_before + exchange.downlink_bytes_before
        starts = exchange.kind == EVALUATE or exchange.round != last.round
        if starts:
            found = accuracy_of(exchange.metrics) if score is None else exchange.metrics.get(score)
            last.accuracy = last.accuracy if found is None else found
            last.loss = exchange.metrics.get("loss", last.loss)
            last.personal_accuracy = exchange.metrics.get("personal_accuracy", last.personal_accuracy)
            # In an asynchronous run nobody may have measured it yet.
            measured = exchange.metrics if exchange.staleness is not None else exchange.answers
            last.lost = bool(measured) and "loss" not in exchange.metrics
            last.scores |= own_scores(exchange.metrics)
            last.total_bytes = before
        if exchange.kind == EVALUATE:
            continue
        if starts:
            rounds.append(Round(exchange.round))
        now, cost = rounds[-1], cost_of(exchange)
        now.cost += cost
        now.answers += exchange.answers
        now.total_bytes = before + cost.wire
    if all(one.loss is None for one in rounds):
        for one in rounds:
            one.lost = False
    return rounds


def cost_of(exchange: ExchangeMetrics) -> Bytes:
    """The bytes and seconds of one exchange; what its requests were is not told."""
    return Bytes(
        uplink_payload=exchange.uplink_payload_bytes,
        uplink_framing=exchange.uplink_bytes - exchange.uplink_payload_bytes,
        downlink_payload=exchange.downlink_payload_bytes,
        downlink_framing=exchange.downlink_bytes - exchange.downlink_payload_bytes,
        seconds=exchange.seconds,
    )


def payload_bits(rounds: Iterable[Round], parameters: int) -> tuple[float, float]:
    """Payload bits per parameter and answer over these rounds: up, down."""
    found = list(rounds)
    cost = Bytes.sum(one.cost for one in found)
    turns = sum(one.answers for one in found) * parameters or 1
    return 8 * cost.uplink_payload / turns, 8 * cost.downlink_payload / turns


def accuracy_of(metrics: Mapping[str, float], default: float | None = None) -> float | None:
    """The share of right classes, or the mean Dice coefficient, whichever the clients measured."""
    return metrics.get("accuracy", metrics.get("dice", default))


def own_scores(metrics: Mapping[str, float]) -> dict[str, float]:
    """What a task measures beside what every task does, by name."""
    return {name: value for name, value in sorted(metrics.items()) if name not in _NO_SCORES}


def measured_scores(rounds: Iterable[Round], best: str | None = None) -> list[str]:
    """What these rounds can be judged by, the usual one first: that of the run's setting `best`, else accuracy where
    there is one, else the first of the task's own, else the loss.
    """
    found = list(rounds)
    first = own_score(best)
    names = sorted({name for one in found for name in one.scores}, key=lambda name: (name != first, name))
    usual = [ACCURACY] if any(one.accuracy is not None for one in found) else []
    if first in names:
        return [first, *usual, *names[1:], *(["loss"] if any(one.loss is not None for one in found) else [])]
    return [*usual, *names, *(["loss"] if any(one.loss is not None for one in found) else [])]


def is_lower_better(score: str) -> bool:
    """Whether less of a score is better: by a `-` before its name, or by what the name says: `rmse`, `test_error`."""
    return score.startswith("-") or any(word in _LOWER for word in score.lower().split("_"))


def evaluation_of(exchanges: Iterable[ExchangeMetrics]) -> ExchangeMetrics | None:
    """The exchange after the last round, if it has closed."""
    return next((exchange for exchange in exchanges if exchange.kind == EVALUATE), None)


def bytes_to_accuracy(rounds: Sequence[Round], share: float = 0.99) -> tuple[float, int] | None:
    """The accuracy that is `share` of the best one, and the bytes the first model to reach it had cost."""
    measured = [(one.accuracy, one.total_bytes) for one in rounds if one.accuracy is not None]
    if not measured:
        return None
    target = share * max(accuracy for accuracy, _ in measured)
    return next((accuracy, cost) for accuracy, cost in measured if accuracy >= target)


def bytes_until(rounds: Iterable[Round], target: float, score: str = ACCURACY) -> int | None:
    """The wire bytes that the run had cost when a model of its was first as good as the target; None where none was."""
    sign = -1 if is_lower_better(score) else 1
    return next((cost for reached, cost in curve(rounds, score) if sign * reached >= sign * target), None)


def curve(rounds: Iterable[Round], score: str = ACCURACY) -> list[tuple[float, int]]:
    """The score of each round's model, and the wire bytes the run had cost when the model was complete."""
    found = ((one.measure(score), one.total_bytes) for one in rounds)
    return [(value, cost) for value, cost in found if value is not None and cost]


def usual_target(baseline: Iterable[Round], score: str = ACCURACY) -> float:
    """What to compare runs at where nobody says it: `TARGET_SHARE` of the best that the baseline reached; of a score of
    which less is better, so much more than the least.
    """
    reached = [value for value, _ in curve(baseline, score)]
    if is_lower_better(score):
        least = min(reached, default=0.0)
        return least / TARGET_SHARE if least >= 0 else least * TARGET_SHARE
    return TARGET_SHARE * max(reached, default=0.0)
