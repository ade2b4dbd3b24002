"""What of an exchange of an asynchronous run outlives it, and what does not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from thinwire.coordinator.runs.closed import Over
from thinwire.coordinator.runs.exchange import Slot

from .current import Current, Outstanding


def over_of(current: Current, *, goes_on: bool) -> Over:
    """Whose unanswered tasks are late when the exchange closes: its own, and in an asynchronous run those that are too
    old for the next exchange, or all of them where the run does not go on.
    """
    oldest = current.exchange.policy.max_staleness
    if oldest is None or not goes_on:
        return Over(current.oldest, current.index + 1)
    first = current.index - oldest
    count = "1 exchange" if oldest == 1 else f"{oldest} exchanges"
    return Over(first, first + 1, f"it began from exchange {first}, and the run takes answers up to {count} old")


def outstanding_of(current: Current) -> Outstanding:
    """What the exchange leaves open for the next one."""
    slots = current.exchange.carry()
    names, needed = {slot.client for slot in slots}, {current.index + 1 - slot.age for slot in slots}
    sent = {**current.older, current.index: current.published}
    return Outstanding(
        slots,
        {name: at for name, at in current.asked.unheard.items() if name in names},
        {index: sent[index].to_decode() for index in sorted(needed)},
    )


def staleness_of(slots: Iterable[Slot]) -> list[int]:
    """How many answers that count are 0, 1, 2... exchanges old."""
    ages = Counter(slot.age for slot in slots if slot.state == "accepted")
    return [ages[age] for age in range(max(ages, default=-1) + 1)]
