"""The round policy: how many are asked, how many must answer, for how long."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from thinwire.protocol.settings import RunSettings


@dataclass(frozen=True, slots=True)
class Policy:
    """`cohort`: answers it closes at; `asked` >= cohort: slots kept filled; `quorum` <= cohort: answers without which
    it has failed; `same`: the cohort is given and never refilled. `deadline_s`: of one offer. `max_staleness`: of an
    asynchronous run, so many exchanges an answer may be older than the one it counts in; `asked`: slots kept open then.
    """

    cohort: int
    asked: int
    quorum: int
    max_offers: int = 3
    deadline_s: float | None = None
    same: bool = False
    max_staleness: int | None = None

    def of(self, cohort: int) -> Policy:
        """The policy of a given cohort of this size."""
        return replace(self, cohort=cohort, asked=cohort, quorum=min(self.quorum, cohort))

    @staticmethod
    def from_settings(run: RunSettings, *, same: bool, cohort: int | None = None, evaluates: bool = False) -> Policy:
        """What the run's settings say of an exchange; `same`: of one with a given cohort. `cohort`: instead of the
        run's, where a budget has lowered it. `evaluates`: of the final model, for which everybody is waited.
        """
        size = run.cohort if cohort is None else cohort
        return Policy(
            cohort=size,
            asked=math.ceil(size * run.over_select) if evaluates or run.max_staleness is None else run.kept_busy,
            quorum=min(run.needed, size),
            max_offers=run.max_offers,
            deadline_s=run.deadline_s,
            same=same,
            max_staleness=None if evaluates else run.max_staleness,
        )
