"""What is made of the contributions of an exchange: the monoid of a method, and what a run says of it."""

from __future__ import annotations

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
