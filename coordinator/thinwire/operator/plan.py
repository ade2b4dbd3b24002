"""What a run will cost on the wire and how long its transfers take, before anything is sent: `thinwire plan`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

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
class Budget:
    """A limit of the run beside what it will take of it: `max-bytes` by the whole run of all clients, those of one
    client by its dearest round, and by a whole run in a single day or month. `rounds`: how many rounds of one client it
    lasts for at most; None for `max-bytes`.
    """

    name: str
    most: int
    needs: tuple[int, int]
    rounds: int | None = None

    @property
    def fits(self) -> Literal["yes", "no", "perhaps"]:
        """Whether what is foretold is within it."""
        least, most = self.needs
        return "yes" if most <= self.most else "no" if least > self.most else "perhaps"


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
    def budgets(self) -> list[Budget]:
        """Those that the run has."""
        trained = [span for name, _, span in self.rounds if name != EVALUATE]
        dearest = max((self._each(span) for span in trained), default=(0, 0), key=lambda needs: needs[1])
        begins = (self.begins.least.wire // max(1, self.asked), self.begins.most.wire // max(1, self.known))
        spans = [self._each(span) for _, count, span in self.rounds for _ in range(count)]
        whole = (begins[0] + sum(least for least, _ in spans), begins[1] + sum(most for _, most in spans))
        run, found = self.run, list[Budget]()
        if run.max_bytes is not None:
            found.append(Budget("max-bytes", run.max_bytes, (self.total.least.wire, self.total.most.wire)))
        for word, most, needs in (
            ("round", run.max_bytes_per_round, dearest),
            ("day", run.max_bytes_per_day, whole),
            ("month", run.max_bytes_per_month, whole),
        ):
            if most is not None:
                found.append(Budget(f"max-bytes-per-{word}", most, needs, most // max(1, dearest[1])))
        return found

    def _each(self, span: Span) -> tuple[int, int]:
        """The bytes of one of the clients that are asked."""
        return span.least.wire // max(1, self.asked), -(-span.most.wire // max(1, self.asked))


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
        "budgets": [
            {"name": one.name, "bytes": one.most, "needs": [*one.needs], "fits": one.fits, "rounds": one.rounds}
            for one in planned.budgets
        ],
    }


def _plain(span: Span) -> dict[str, Any]:
    ends = (span.least, span.most)
    return {
        "up": [one.up for one in ends],
        "down": [one.down for one in ends],
        "wire": [one.wire for one in ends],
        "seconds": [round(one.seconds, 1) for one in ends],
    }
