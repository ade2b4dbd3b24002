"""A run's budgets of bytes: whether another round fits, with how many bits and clients, and who is left out of it.

Every figure is of the last round, taken for the measure of the next; what is decided stands in the row of the exchange.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from thinwire.machine.quantities import in_bytes
from thinwire.methods.values import EVALUATE
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.settings import RunSettings

DAY_S: Final = 86_400


@dataclass(frozen=True, slots=True)
class Past:
    """A closed exchange, as far as a budget cares."""

    exchange: int
    round: int
    kind: str
    step: int = 0


@dataclass(frozen=True, slots=True)
class Lowered:
    """Of an exchange: `bits` that `quantise` has at most, `cohort` instead of the run's; None: as the run has them."""

    bits: int | None = None
    cohort: int | None = None

    def said(self) -> str | None:
        """In words; None where nothing is."""
        bits = [] if self.bits is None else [f"at most {self.bits} bits"]
        words = bits + ([] if self.cohort is None else [f"a cohort of {self.cohort}"])
        return " and ".join(words) or None


@dataclass(frozen=True, slots=True)
class Before:
    """What has been spent. `all`: wire bytes of all exchanges; `last`: of those of the last round of training, with
    what its clients' requests have carried so far; `final`: what an evaluation would take; `clients`: of the last
    round. `lowered`: what that round had; `sizes`: by the most bits, how long payloads up and down are to each other,
    empty where no bits can be lowered; `plan`: what another plan costs each client, which other bits need.
    """

    all: int
    last: Bytes
    final: int
    clients: int
    lowered: Lowered
    sizes: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    plan: int = 0

    def wire(self, bits: int | None) -> float:
        """Of a round like the last one, of as many clients, with so many bits at most."""
        up, down = 1.0, 1.0
        if self.sizes:
            widest = max(self.sizes)
            had, has = (self.sizes[widest if one is None else one] for one in (self.lowered.bits, bits))
            up, down = has[0] / had[0], has[1] / had[1]
        plans = 0 if bits == self.lowered.bits else self.clients * self.plan
        payload = self.last.uplink_payload * up + self.last.downlink_payload * down
        return payload + self.last.uplink_framing + self.last.downlink_framing + plans

    def each(self, bits: int | None) -> float:
        """The same, of one client."""
        return self.wire(bits) / max(1, self.clients)

    def cohort(self, run: RunSettings) -> int:
        """That of the last round."""
        return run.cohort if self.lowered.cohort is None else self.lowered.cohort


def last_round(closed: Sequence[Past]) -> list[int]:
    """The exchanges of the last round of training, by index; none before it."""
    trained = [one for one in closed if one.kind != EVALUATE]
    return [one.exchange for one in trained if one.round == trained[-1].round]


def lower(run: RunSettings, before: Before, rounds_left: int) -> Lowered:
    """What the next round is to have, so that what is left lasts for all rounds, as far as the run lets it."""
    cohort, had = run.cohort, before.cohort(run)
    left = None if run.max_bytes is None else max(0, run.max_bytes - before.all - before.final) / max(1, rounds_left)

    widest = max(before.sizes, default=None)

    def fits(most: int) -> bool:
        bits = None if most == widest else most
        of_run = left is None or before.wire(bits) * cohort / had <= left
        return of_run and (run.max_bytes_per_round is None or before.each(bits) <= run.max_bytes_per_round)

    bits = next((one for one in sorted(before.sizes, reverse=True) if fits(one)), min(before.sizes, default=None))
    bits = None if bits == widest else bits
    if left is not None and run.least_cohort is not None:
        fitting = int(left * had / max(1.0, before.wire(bits)))
        cohort = min(cohort, max(run.least_cohort, fitting))
    return Lowered(bits, None if cohort == run.cohort else cohort)


def beyond_budget(run: RunSettings, before: Before, lowered: Lowered) -> str | None:
    """Why another round is too dear, even so; None: it is not."""
    each = before.each(lowered.bits)
    if run.max_bytes_per_round is not None and each > run.max_bytes_per_round:
        return (
            f"max-bytes-per-round: a round takes about {each:.0f} bytes of each client, and no more than "
            f"{run.max_bytes_per_round} were to be spent"
        )
    cohort = run.cohort if lowered.cohort is None else lowered.cohort
    another = before.wire(lowered.bits) * cohort / before.cohort(run)
    if run.max_bytes is None or before.all + another + before.final <= run.max_bytes:
        return None
    return (
        f"max-bytes: {before.all} of {run.max_bytes} bytes were spent when another round would have taken about "
        f"{another:.0f}"
    )


@dataclass(frozen=True, slots=True)
class Spent:
    """Wire bytes by client: in this round, today, this month; and what the same exchange took of each client in the
    round before (`like`), none where there was none.
    """

    round: Mapping[str, int] = field(default_factory=dict)
    day: Mapping[str, int] = field(default_factory=dict)
    month: Mapping[str, int] = field(default_factory=dict)
    like: Mapping[str, int] = field(default_factory=dict)

    def needs(self, client: str) -> int:
        """What the client's part will take: what it took last time, or what the others took, if that is more."""
        taken = [value for value in self.like.values() if value]
        return max(self.like.get(client, 0), sum(taken) // len(taken) if taken else 0)


def has_client_budget(run: RunSettings) -> bool:
    """Whether clients have budgets of their own."""
    return any(most is not None for most in (run.max_bytes_per_round, run.max_bytes_per_day, run.max_bytes_per_month))


def why_left_out(run: RunSettings, spent: Spent, client: str) -> str | None:
    """Which budget of this client its part would pass; None: it may be asked."""
    limits = (
        ("round", run.max_bytes_per_round, spent.round),
        ("day", run.max_bytes_per_day, spent.day),
        ("month", run.max_bytes_per_month, spent.month),
    )
    need = spent.needs(client)
    for word, most, gone in limits:
        had = gone.get(client, 0)
        if most is not None and (had >= most or had + need > most):
            words = f"max-bytes-per-{word}: {in_bytes(had)} of {in_bytes(most)} are spent"
            return f"{words}, and its part takes {in_bytes(need)}" if had < most else words
    return None


def day_of(wall: float) -> int:
    """Days since 1970 of this moment, in Unix seconds, UTC."""
    return int(wall // DAY_S)


def month_of(wall: float) -> int:
    """The day on which its month begins, in days since 1970."""
    moment = datetime.fromtimestamp(wall, UTC)
    return day_of(datetime(moment.year, moment.month, 1, tzinfo=UTC).timestamp())
