"""What is made of the contributions of an exchange: the monoid of a method, and what a run says of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from thinwire.protocol.settings import RunSettings

from .values import Contribution

TotalT = TypeVar("TotalT")


class Reducer(Protocol[TotalT]):
    """A commutative monoid over contributions: any order, tree, thread or process gives the same bits.

    `add` and `merge` may change and return their first argument, which the caller gives up.
    """

    @property
    def keeps(self) -> bool:
        """Whether a total holds on to the arrays it is given: whoever adds many should give arrays that lie on disk."""

    def check(self, contribution: Contribution) -> Contribution:
        """The contribution as it may be added, the same as a rule; it may have been scaled down.

        Raises: `CodecError` if it must not be added (not finite, out of bounds).
        """

    def zero(self) -> TotalT: ...

    def add(self, total: TotalT, contribution: Contribution) -> TotalT: ...

    def merge(self, first: TotalT, second: TotalT) -> TotalT: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """What no sum of this run may exceed; `ExactSum` derives its fixed point from them.

    `clients`: the largest number of counted answers in one exchange; `examples`: the largest weight of one
    answer; `value`: the largest |x| of an array element.
    """

    clients: int
    examples: int = 1 << 16
    value: float = 1024.0


@dataclass(frozen=True, slots=True)
class Robust:
    """How a run guards its mean. `statistic`: instead of the mean, None for the mean; `trim`: of the trimmed mean, the
    share of answers left out at each end; `max_norm`: of one contribution, beyond which it is clipped or refused.
    """

    statistic: Literal["median", "trimmed-mean"] | None = None
    trim: float = 0.1
    max_norm: float | None = None
    refuse: bool = False

    @staticmethod
    def of(run: RunSettings) -> Robust:
        """What the run's settings say."""
        statistic = None if run.reducer == "mean" else run.reducer
        trim = 0.1 if run.trim is None else run.trim
        return Robust(statistic, trim, run.max_norm, run.over_norm == "refuse")

    def warnings(self, clients: int, weighting: str | None) -> list[str]:
        """Where a guard guards less than a person may think, one sentence each. `clients`: whose answers an exchange
        counts; `weighting`: of the method, None where it has none.
        """
        said = []
        if self.statistic is not None and clients < 3:
            said.append(f"{self.statistic} of {clients} answers is their mean: it takes a cohort of at least 3")
        elif self.statistic == "trimmed-mean" and not trimmed(clients, self.trim):
            enough = math.ceil(1000 / clients) / 1000
            said.append(
                f"trimmed-mean leaves out nobody: {self.trim:g} of a cohort of {clients} is less than one answer; "
                f"trim={enough:g} leaves out the largest and the smallest value"
            )
        if self.max_norm is not None and self.statistic is None and weighting == "examples":
            said.append(
                "max-norm lets every client count the same, whatever weighting says: the number of examples is what a "
                "client claims, and would buy the weight that the norm is to bound"
            )
        return said


def trimmed(count: int, trim: float) -> int:
    """How many of `count` answers a trimmed mean leaves out at each end: floor(trim * count), one at least stays."""
    return min(math.floor(trim * count), (count - 1) // 2)
