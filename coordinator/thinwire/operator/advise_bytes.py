"""What a run costs on the wire, from what was played of it without one: payloads as they are, framing as measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from thinwire.methods.values import EVALUATE
from thinwire.protocol.trials import TrialExchange, TrialPlace, TrialResult


@dataclass(frozen=True, slots=True)
class Overhead:
    """Bytes up and down that a request costs beside its payload, for one client."""

    up: int
    down: int


# Read off the ledger of runs over plain HTTP, on kept-alive connections: `python -m benchmarks.framing`. A test plays
# runs and compares.
EXCHANGE: Final = Overhead(182, 69)
"""An answer, and the next task in its reply."""
EVALUATION: Final = Overhead(177, 99)
BEGIN: Final = Overhead(135, 85)
"""The registration before the first task."""
PLAN: Final = Overhead(160, 224)
FETCHED: Final = Overhead(163, 268)
"""A payload that no message has room for."""
UPLOADED: Final = Overhead(479, 260)
ROUND_TRIPS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Point:
    """Where a run stands when this many rounds are done. `scores`: by name, of the model it has then; `up`, `down`:
    wire bytes of all clients so far, its broadcast included, as reports count; `seconds`: of transfers on the link.
    """

    rounds: int
    scores: dict[str, float]
    up: int
    down: int
    seconds: float

    @property
    def wire(self) -> int:
        return self.up + self.down


def points_of(result: TrialResult, place: TrialPlace) -> list[Point]:
    """After each round, the last one with the evaluation and everything else that the run costs."""
    found: list[Point] = []
    up = down = 0
    seconds = 0.0
    for one in result.exchanges:
        begun, cost = coming(one), cost_of(one)
        up, down = up + begun.up, down + begun.down
        before = Point(one.round - 1, one.metrics, up, down + cost.down, seconds)
        up, down = up + cost.up, down + cost.down
        seconds += seconds_of(one, cost, place)
        if one.kind == EVALUATE:
            found.append(Point(one.round - 1, one.metrics, up, down, seconds))
        elif one.metrics and (not found or found[-1].rounds < before.rounds):
            found.append(before)
    return found


def total(result: TrialResult, place: TrialPlace) -> int:
    """Wire bytes of the whole run, both ways, of all clients."""
    points = points_of(result, place)
    return points[-1].wire if points else 0


def coming(one: TrialExchange) -> Overhead:
    """What those cost that come to this exchange: their registration, and the plans of whoever has not had them."""
    return Overhead(
        one.newcomers * BEGIN.up + one.plans * PLAN.up,
        one.newcomers * BEGIN.down + one.plans * PLAN.down + one.plan_bytes,
    )


def beginning(result: TrialResult) -> Overhead:
    """What one client costs before its first task: its registration, and the plans with what they take."""
    return Overhead(BEGIN.up + result.plans * PLAN.up, BEGIN.down + result.plans * PLAN.down + result.plan_bytes)


def cost_of(one: TrialExchange) -> Overhead:
    """Wire bytes of an exchange, of all its clients."""
    each = EVALUATION if one.kind == EVALUATE else EXCHANGE
    apart: Sequence[tuple[int, Overhead]] = ((one.clients, each), (one.fetched, FETCHED), (one.uploaded, UPLOADED))
    return Overhead(
        one.uplink_bytes + sum(count * cost.up for count, cost in apart),
        one.downlink_bytes + one.beside_bytes + sum(count * cost.down for count, cost in apart),
    )


def seconds_of(one: TrialExchange, cost: Overhead, place: TrialPlace) -> float:
    """Of the exchange on the link, whose clients send and receive at the same time; 0 where no link is asked about."""
    if place.link is None or not one.clients:
        return 0.0
    up_bps, down_bps, rtt_s = place.link
    trips = ROUND_TRIPS + (one.fetched + one.uploaded) / one.clients
    return 8 * (cost.up / up_bps + cost.down / down_bps) / one.clients + trips * rtt_s
