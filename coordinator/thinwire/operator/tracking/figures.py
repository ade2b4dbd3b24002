"""What is handed on of a run: a figure for each round, by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from thinwire.methods.rounds import Round, rounds_of
from thinwire.methods.values import EVALUATE
from thinwire.protocol.messages import ExchangeMetrics, RunView

_OWN: Final = ("accuracy", "dice", "loss", "personal_accuracy")
_LONGEST: Final = 250


class Tracker(Protocol):
    """Where figures go. The same run told again takes the place of what was told of it."""

    def tell(self, view: RunView, exchanges: list[ExchangeMetrics]) -> None:
        """The run as it stands, with all exchanges that are closed. Raises: `TrackingError`."""
        ...


class TrackingError(Exception):
    """The figures could not be handed on; the text says why."""


@dataclass(frozen=True, slots=True)
class Point:
    """The figures of a round. `seconds`: from the run's beginning to its end."""

    round: int
    seconds: float
    figures: Mapping[str, float]


def points_of(view: RunView, exchanges: list[ExchangeMetrics]) -> list[Point]:
    """Of each round whose model has been measured, or of every one where the run is over: accuracy and loss of the
    model it made, its bytes and seconds, and what a task scores besides, of the model it received.
    """
    rounds = rounds_of(exchanges)
    done = rounds if view.state == "finished" else rounds[:-1]
    others = _others(exchanges)
    seconds, found = 0.0, []
    for one in done:
        seconds += one.cost.seconds
        figures = {**others.get(one.round, {}), **dict(_figures(one))}
        if figures:
            found.append(Point(one.round, seconds, figures))
    return found


def settings_of(view: RunView) -> dict[str, str]:
    """The run's settings as text, the method's by their own names."""
    plain = {"method": view.method, "parameters": view.parameters, **view.settings}
    of_method: dict[str, Any] = plain.pop("settings", {}) or {}
    found = {**plain, **{f"settings.{name}": value for name, value in of_method.items()}}
    return {name: str(value)[:_LONGEST] for name, value in found.items()}


def _figures(one: Round) -> Iterable[tuple[str, float]]:
    measured = (("accuracy", one.accuracy), ("loss", one.loss), ("personal_accuracy", one.personal_accuracy))
    yield from ((name, value) for name, value in measured if value is not None)
    if one.round:
        yield from (
            ("uplink_bytes", one.cost.uplink), ("downlink_bytes", one.cost.downlink),
            ("framing_bytes", one.cost.framing), ("total_bytes", one.total_bytes), ("answers", one.answers),
            ("seconds", one.cost.seconds),
        )  # fmt: skip


def _others(exchanges: Iterable[ExchangeMetrics]) -> dict[int, dict[str, float]]:
    """Round -> what its model scored by the next exchange, beside accuracy and loss."""
    found: dict[int, dict[str, float]] = {}
    before = 0
    for one in exchanges:
        made = before if one.kind == EVALUATE or one.round != before else None
        if made is not None:
            others = {name: value for name, value in one.metrics.items() if name not in _OWN}
            found[made] = {name: value for name, value in others.items() if name not in ("examples", "seconds")}
        before = one.round
    return found
