"""Rounds as a person thinks of them, from the exchanges of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from thinwire.methods.values import EVALUATE
from thinwire.protocol.messages import ExchangeMetrics


@dataclass(slots=True)
class Round:
    """One round. `accuracy`, `loss`: of the model that it made, measured by the exchange after it; None before. Of a
    method without global model: means over the clients' own models, on the same test examples; `personal_accuracy`: the
    mean on test examples distributed like each client's own, another figure. None for methods that do not measure it.
    Where the targets are maps, `accuracy` is the mean Dice coefficient.

    Bytes are wire bytes; `total_bytes`: of the run up to the end of this round, both directions. Round 0 is the
    first model, which cost nothing; the evaluation after the last round has bytes of its own in no round.
    """

    round: int
    accuracy: float | None = None
    loss: float | None = None
    personal_accuracy: float | None = None
    uplink_bytes: int = 0
    downlink_bytes: int = 0
    uplink_payload_bytes: int = 0
    downlink_payload_bytes: int = 0
    total_bytes: int = 0
    seconds: float = 0.0
    answers: int = 0

    @property
    def wire_bytes(self) -> int:
        return self.uplink_bytes + self.downlink_bytes

    @property
    def framing_bytes(self) -> int:
        return self.wire_bytes - self.uplink_payload_bytes - self.downlink_payload_bytes

    def bits_per_parameter(self, parameters: int) -> tuple[float, float]:
        """Payload bits that an answer, and the broadcast it answered, cost per parameter of the model: up, down."""
        turns = self.answers * parameters or 1
        return 8 * self.uplink_payload_bytes / turns, 8 * self.downlink_payload_bytes / turns

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self) | {"framing_bytes": self.framing_bytes}


def rounds_of(exchanges: Iterable[ExchangeMetrics]) -> list[Round]:
    """Round 0 and one per round that has begun to close, in order."""
    rounds = [Round(0)]
    for exchange in exchanges:
        last = rounds[-1]
        starts = exchange.kind == EVALUATE or exchange.round != last.round
        if starts:
            last.accuracy = accuracy_of(exchange.metrics, last.accuracy)
            last.loss = exchange.metrics.get("loss", last.loss)
            last.personal_accuracy = exchange.metrics.get("personal_accuracy", last.personal_accuracy)
            last.total_bytes = exchange.uplink_bytes_before + exchange.downlink_bytes_before
        if exchange.kind == EVALUATE:
            continue
        if starts:
            rounds.append(Round(exchange.round))
        now = rounds[-1]
        now.uplink_bytes += exchange.uplink_bytes
        now.downlink_bytes += exchange.downlink_bytes
        now.uplink_payload_bytes += exchange.uplink_payload_bytes
        now.downlink_payload_bytes += exchange.downlink_payload_bytes
        now.seconds += exchange.seconds
        now.answers += exchange.answers
        before = exchange.uplink_bytes_before + exchange.downlink_bytes_before
        now.total_bytes = before + exchange.uplink_bytes + exchange.downlink_bytes
    return rounds


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
