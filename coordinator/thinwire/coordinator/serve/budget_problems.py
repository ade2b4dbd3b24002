"""What budgets of bytes do to a run, as problems with their cures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from thinwire.coordinator.runs.budget import Lowered
from thinwire.coordinator.runs.rows import ExchangeRow, RunRow
from thinwire.machine.quantities import in_bytes
from thinwire.protocol.messages import Severity

NEAR: Final = 0.8
"""Of the budget."""
MOST_CLIENTS: Final = 20
"""That are named."""


@dataclass(frozen=True, slots=True)
class OfBudget:
    """What is wrong and what to do; `client`: whose budget it is, None for the run's."""

    severity: Severity
    said: str
    cure: str
    client: str | None = None


def near_the_end(row: RunRow, spent: int) -> Iterator[OfBudget]:
    """Of the run's own budget. `spent`: wire bytes."""
    most = row.settings.max_bytes
    if most is not None and spent > NEAR * most:
        yield OfBudget(
            "warning", f"{row.name} has spent {in_bytes(spent)} of {in_bytes(most)}",
            "it ends with the round that the rest is enough for; begin the next one with a larger max-bytes, "
            "a coarser chain or a smaller cohort",
        )  # fmt: skip


def by_budgets(row: RunRow, opened: ExchangeRow) -> Iterator[OfBudget]:
    """What is lowered of the open exchange, and who is left out of it."""
    lowered = Lowered(opened.lowered_bits, opened.lowered_cohort).said()
    if lowered is not None:
        yield OfBudget(
            "notice", f"{row.name}, round {opened.round}: a budget allows {lowered}",
            "pause it and give it a larger budget, if the model suffers",
        )  # fmt: skip
    for name, why in sorted((opened.left_out or {}).items())[:MOST_CLIENTS]:
        yield OfBudget(
            "warning", f"{name} is left out of {row.name}: {why}",
            "it is asked again when the day or month is over, or with a larger budget", name,
        )  # fmt: skip
