"""Runs beside each other: by a score, at a target, against a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

from thinwire.methods.rounds import ACCURACY, Round, bytes_until, is_lower_better, measured_scores, usual_target
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import RunView

MOST_POINTS: Final = 120
"""Of a large curve."""
MOST_COMPARED: Final = 12


@dataclass(frozen=True, slots=True)
class Compared:
    """A run beside others. `newest`, `best`: of the score that they are compared by. `bytes_to_target`: wire bytes it
    had cost when its model first reached the target; `saved_share`: of those that the baseline needed. `own`: what was
    measured are models that stay on the clients.
    """

    run: RunView
    rounds: list[dict[str, Any]]
    best: float | None
    newest: float | None
    uplink_bytes: int
    downlink_bytes: int
    framing_bytes: int
    seconds: float
    bytes_to_target: int | None
    saved_share: float | None
    own: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """`score`: what they are compared by, of `scores`; `lower`: less of it is better. `target`: what is asked for, or
    else 0.98 of the best of the baseline: the first run of a method with a global model. `choice`: all runs there are,
    the newest first, by name.
    """

    runs: list[Compared]
    score: str
    scores: list[str]
    lower: bool
    target: float | None
    baseline: str | None
    choice: list[str]


def compared(
    found: Sequence[tuple[RunView, Sequence[Round], bool]], target: float | None, score: str | None, choice: list[str]
) -> Comparison:
    """These runs with their rounds, each with whether its models stay on the clients, in the order given."""
    if not found:
        return Comparison([], score or ACCURACY, [], False, target, None, choice)
    baseline = next((index for index, (_, _, own) in enumerate(found) if not own), 0)
    names = [measured_scores(rounds) for _, rounds, _ in (found[baseline], *found)]
    scores = list(dict.fromkeys(chain.from_iterable(names)))
    if score not in scores:
        score = scores[0] if scores else ACCURACY
    if target is None:
        target = usual_target(found[baseline][1], score)
    usual = bytes_until(found[baseline][1], target, score)
    runs = [_compared(view, rounds, target, usual, score, own=own) for view, rounds, own in found]
    return Comparison(runs, score, scores, is_lower_better(score), target, found[baseline][0].name, choice)


def _compared(
    view: RunView, rounds: Sequence[Round], target: float, usual: int | None, score: str, *, own: bool
) -> Compared:
    cost = Bytes.sum(one.cost for one in rounds)
    measured = [value for one in rounds if (value := one.measure(score)) is not None]
    reached = bytes_until(rounds, target, score)
    return Compared(
        run=view,
        rounds=drawn(rounds),
        best=min(measured, default=None) if is_lower_better(score) else max(measured, default=None),
        newest=measured[-1] if measured else None,
        uplink_bytes=cost.uplink,
        downlink_bytes=cost.downlink,
        framing_bytes=cost.framing,
        seconds=cost.seconds,
        bytes_to_target=reached,
        saved_share=None if reached is None or not usual else 1 - reached / usual,
        own=own,
    )


def drawn(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """At most `MOST_POINTS` of them, evenly, the last one among them; `total_seconds`: up to the end of the round."""
    every = -(-len(rounds) // MOST_POINTS) or 1
    found, seconds = [], 0.0
    for index, one in enumerate(rounds):
        seconds += one.cost.seconds
        if (len(rounds) - 1 - index) % every == 0:
            found.append({**one.plain(), "total_seconds": seconds})
    return found
