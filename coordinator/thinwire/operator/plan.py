"""What a run will cost on the wire and how long its transfers take, before anything is sent: `thinwire plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from thinwire.codecs import Arrays
from thinwire.machine.link_rates import LinkRates
from thinwire.methods.foretold import foretell
from thinwire.methods.values import EVALUATE
from thinwire.protocol.settings import RunSettings
from thinwire.protocol.trials import TrialExchange, TrialPlace, TrialResult

from .advise_bytes import Overhead, beginning, cost_of, seconds_of


@dataclass(frozen=True, slots=True)
class Cost:
    """Wire bytes of all clients, and the seconds that each of them transfers."""

    up: int
    down: int
    seconds: float

    @property
    def wire(self) -> int:
        return self.up + self.down

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.up + other.up, self.down + other.down, self.seconds + other.seconds)


@dataclass(frozen=True, slots=True)
class Span:
    """The least and the most."""

    least: Cost
    most: Cost

    def __add__(self, other: Span) -> Span:
        return Span(self.least + other.least, self.most + other.most)


@dataclass(frozen=True, slots=True)
class Planned:
    """`asked`: clients of an exchange; `known`: those that may be asked at all; `begins`: registrations and plans;
    `rounds`: in order `1`, `2-9`, `evaluate`, how many these are, and what each costs.
    """

    run: RunSettings
    asked: int
    known: int
    begins: Span
    rounds: Sequence[tuple[str, int, Span]]
    total: Span

    @property
    def fits(self) -> str | None:
        """Of `max-bytes`: `yes`, `no`, `perhaps`; None where there is none."""
        budget = self.run.max_bytes
        if budget is None:
            return None
        return "yes" if self.total.most.wire <= budget else "no" if self.total.least.wire > budget else "perhaps"


def plan(run: RunSettings, model: Arrays, clients: int, link: LinkRates | None, *, own_first: bool = True) -> Planned:
    """Of this run by so many clients. Raises: `run-invalid`."""
    slowed = None if link is None else link.slowed
    rates = None if slowed is None else (slowed.up_bps, slowed.down_bps, slowed.rtt_s)
    place = TrialPlace(clients=clients, examples=0, parameters=0, link=rates)
    least, most = foretell(run, model, clients, own_first=own_first)
    asked = max((one.clients for one in least.exchanges), default=0)
    # Whoever takes part once registers and fetches the plans; at least those of one exchange do, at most everybody.
    known = min(clients, asked * len(least.exchanges))
    begins = Span(_begins(least, asked, place), _begins(most, known, place))
    spans = [
        Span(_cost(one, place), _cost(other, place))
        for one, other in zip(least.exchanges, most.exchanges, strict=True)
    ]  # fmt: skip
    by_round: dict[str, Span] = {}
    for one, span in zip(least.exchanges, spans, strict=True):
        name = EVALUATE if one.kind == EVALUATE else str(one.round)
        by_round[name] = by_round[name] + span if name in by_round else span
    total = begins
    for span in spans:
        total += span
    return Planned(run, asked, known, begins, _together(by_round), total)


def _begins(result: TrialResult, clients: int, place: TrialPlace) -> Cost:
    each = beginning(result)
    return Cost(clients * each.up, clients * each.down, _seconds_of_beginning(each, result.plans, place))


def _seconds_of_beginning(each: Overhead, plans: int, place: TrialPlace) -> float:
    """For one client: what it sends and receives, and a round trip for each request."""
    if place.link is None:
        return 0.0
    up_bps, down_bps, rtt_s = place.link
    return 8 * (each.up / up_bps + each.down / down_bps) + (1 + plans) * rtt_s


def _cost(one: TrialExchange, place: TrialPlace) -> Cost:
    cost = cost_of(one)
    return Cost(cost.up, cost.down, seconds_of(one, cost, place))


def _together(by_round: dict[str, Span]) -> list[tuple[str, int, Span]]:
    found: list[tuple[str, int, Span]] = []
    for name, span in by_round.items():
        if found and found[-1][2] == span and name != EVALUATE:
            first, count, _ = found[-1]
            found[-1] = (f"{first.partition('-')[0]}-{name}", count + 1, span)
        else:
            found.append((name, 1, span))
    return found


def plain(planned: Planned) -> dict[str, Any]:
    """As JSON has it: each figure as [least, most]."""
    return {
        "method": planned.run.method,
        "asked": planned.asked,
        "begins": _plain(planned.begins),
        "rounds": [{"rounds": name, "count": count, **_plain(span)} for name, count, span in planned.rounds],
        "total": _plain(planned.total),
        "max_bytes": planned.run.max_bytes,
        "fits": planned.fits,
    }


def _plain(span: Span) -> dict[str, Any]:
    ends = (span.least, span.most)
    return {
        "up": [one.up for one in ends],
        "down": [one.down for one in ends],
        "wire": [one.wire for one in ends],
        "seconds": [round(one.seconds, 1) for one in ends],
    }
