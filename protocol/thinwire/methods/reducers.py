"""What is made of the contributions of an exchange: the monoid of a method, and what a run says of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeVar

from thinwire.protocol.settings import RunSettings

from .values import Contribution

TotalT = TypeVar("TotalT")
_FEWEST: Final = 3
"""Answers of which one may be left out at each end."""


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

    def refuse_idle(self, clients: int) -> None:
        """Raises `ValueError` where these guards guard nothing, whatever comes. `clients`: whose answers an exchange
        counts.
        """
        if self.leaves_out(clients) or self.statistic is None:
            return
        if clients < _FEWEST:
            raise ValueError(
                f"{self.statistic} of {clients} answers is their mean, and guards nothing: it takes a cohort of at "
                f"least {_FEWEST}"
            )
        raise ValueError(
            f"trimmed-mean leaves out nobody, and guards nothing: {self.trim:g} of a cohort of {clients} is less than "
            f"one answer. Give trim={_enough(clients):g} to leave out the largest and the smallest value"
        )

    def warnings(self, clients: int, quorum: int, weighting: str | None) -> list[str]:
        """Where a guard guards less than a person may think, one sentence each. `clients`: whose answers an exchange
        counts; `quorum`: how many it may close with; `weighting`: of the method, None where it has none.
        """
        said = []
        if self.statistic is not None and not self.leaves_out(clients):
            said.append(f"{self.statistic} of {clients} answers leaves out nobody, and guards nothing")
        elif self.statistic is not None and not self.leaves_out(quorum):
            cure = f"quorum={_FEWEST} or more" if quorum < _FEWEST else f"trim={_enough(quorum):g}"
            said.append(
                f"an exchange that closes at its quorum of {quorum} leaves out nobody, so that {self.statistic} is "
                f"then a mean; {cure} makes it guard there too"
            )
        if self.max_norm is not None and self.statistic is None and weighting == "examples":
            said.append(
                "max-norm lets every client count the same, whatever weighting says: the number of examples is what a "
                "client claims, and would buy the weight that the norm is to bound"
            )
        return said

    def leaves_out(self, count: int) -> bool:
        """Whether of so many answers the largest and the smallest value count for nothing."""
        if self.statistic == "median":
            return count >= _FEWEST
        return self.statistic is not None and trimmed(count, self.trim) > 0


def _enough(clients: int) -> float:
    """The smallest `trim` of three digits that leaves out one answer at each end."""
    return math.ceil(1000 / clients) / 1000


def trimmed(count: int, trim: float) -> int:
    """How many of `count` answers a trimmed mean leaves out at each end: floor(trim * count), one at least stays."""
    return min(math.floor(trim * count), (count - 1) // 2)
