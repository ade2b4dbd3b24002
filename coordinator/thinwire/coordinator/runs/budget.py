"""A run's budget of bytes: whether another round fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from thinwire.methods.values import EVALUATE
from thinwire.protocol.bytes import Bytes


@dataclass(frozen=True, slots=True)
class Past:
    """A closed exchange, as far as a budget cares."""

    exchange: int
    round: int
    kind: str


def last_round(closed: Sequence[Past]) -> list[int]:
    """The exchanges of the last round of training, by index; none before it."""
    trained = [one for one in closed if one.kind != EVALUATE]
    return [one.exchange for one in trained if one.round == trained[-1].round]


def beyond_budget(
    max_bytes: int, closed: Sequence[Past], spent: Mapping[int | None, Bytes], uncharged: int, *, evaluates: bool
) -> str | None:
    """Why another round is too dear, taking the last one for its measure; None: it is not.

    `spent`: wire bytes by exchange. `uncharged`: of requests of the last round that are still open: the next task rides
    on their replies. `evaluates`: an evaluation after the round downloads the model once more.
    """
    last = last_round(closed)
    if not last:
        return None
    tallies = [spent.get(index, Bytes()) for index in last]
    before = sum(spent.get(one.exchange, Bytes()).wire for one in closed) + uncharged
    another = sum(tally.wire for tally in tallies) + uncharged
    final = tallies[-1].downlink if evaluates else 0
    if before + another + final <= max_bytes:
        return None
    return f"max-bytes: {before} of {max_bytes} bytes were spent when another round would have taken about {another}"
