"""Rounds as a person thinks of them, from the exchanges of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import ExchangeMetrics

from .values import EVALUATE

TARGET_SHARE: Final = 0.98


@dataclass(slots=True)
class Round:
    """One round. `accuracy`, `loss`: of the model that it made, measured by the exchange after it; None before. Of a
    method without global model: means over the clients' own models, on the same test examples; `personal_accuracy`: the
    mean on test examples distributed like each client's own, another figure. None for methods that do not measure it.
    Where the targets are maps, `accuracy` is the mean Dice coefficient.

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
            last.lost = bool(exchange.answers) and "loss" not in exchange.metrics
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


def bytes_until(rounds: Iterable[Round], accuracy: float) -> int | None:
    """The wire bytes that the run had cost when a model it made first reached this accuracy; None where none did."""
    return next((cost for reached, cost in curve(rounds) if reached >= accuracy), None)


def curve(rounds: Iterable[Round]) -> list[tuple[float, int]]:
    """Accuracy of each round's model, and the wire bytes the run had cost when the model was complete."""
    return [(one.accuracy, one.total_bytes) for one in rounds if one.accuracy is not None and one.total_bytes]


def usual_target(baseline: Iterable[Round]) -> float:
    """The accuracy to compare runs at where nobody names one: `TARGET_SHARE` of the best that the baseline reached."""
    return TARGET_SHARE * max((accuracy for accuracy, _ in curve(baseline)), default=0.0)
