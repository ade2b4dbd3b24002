"""Reducers that survive clients which are broken or hostile: coordinate median, trimmed mean, bounded norms.

D. Yin, Y. Chen, K. Ramchandran, P. Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal Statistical
Rates", ICML 2018, Definitions 1 (median) and 2 (trimmed mean). Z. Sun, P. Kairouz, A. T. Suresh, H. B. McMahan, "Can
You Really Backdoor Federated Learning?", 2019, arXiv 1911.07963, section 4 (norm thresholding).

Neither order statistic is a sum, so a total keeps the contributions; whoever adds large ones gives arrays that lie on
disk. They are read block by block: memory depends on the block, not on the clients. A claimed number of examples would
be a way to buy weight, so every client counts the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np

from thinwire.codecs import Array, Arrays, CodecError

from .arrays import is_buffer
from .reducers import Bounds, Reducer, trimmed
from .server_half import RunFacts
from .sums import ExactSum, Means, Weighting
from .values import Contribution

_BLOCK_BYTES: Final = 16 << 20
_SQUARES: Final = 1 << 16

Statistic = Literal["median", "trimmed-mean"]


@dataclass(slots=True)
class Kept(Means):
    """The contributions of an exchange, in no particular order, and what is made of them."""

    statistic: Statistic
    trim: float
    contributions: list[Contribution] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        return list({name: None for one in self.contributions for name in one.arrays})

    def mean(self, name: str) -> Array:
        """The statistic over the contributions that hold the array, element by element, float64."""
        arrays = [one.arrays[name] for one in self.contributions if name in one.arrays]
        found = np.empty(arrays[0].shape, np.float64)
        flat = [array.reshape(-1) for array in arrays]
        into = found.reshape(-1)
        for block in _blocks(found.size, len(flat)):
            rows = np.empty((len(flat), block.stop - block.start))
            for row, array in zip(rows, flat, strict=True):
                row[:] = array[block]
            # -0.0 and 0.0 are equal, so sorting would leave their order to the order of arrival.
            rows += 0.0
            rows.sort(axis=0)
            into[block] = self._of_sorted(rows)
        return found

    def _of_sorted(self, rows: Array) -> Array:
        """Of K values per column, ascending. Added one by one, so that the bits are the same on every machine."""
        count = len(rows)
        left_out = (count - 1) // 2 if self.statistic == "median" else trimmed(count, self.trim)
        middle = rows[left_out : count - left_out]
        total: Array = middle[0].copy()
        for row in middle[1:]:
            total += row
        total /= len(middle)
        return total


def _blocks(size: int, rows: int) -> Iterator[slice]:
    step = max(1024, _BLOCK_BYTES // (8 * rows))
    for start in range(0, size, step):
        yield slice(start, min(size, start + step))


class OrderStatistic:
    """Coordinate median, or mean of what is left when the smallest and largest `trim` of all values are left out."""

    keeps = True

    def __init__(self, bounds: Bounds, statistic: Statistic, trim: float) -> None:
        # What a sum refuses is refused here too: the bounds protect the model, not only the fixed point.
        self._bounded = ExactSum(bounds)
        self._statistic: Statistic = statistic
        self._trim = trim

    def check(self, contribution: Contribution) -> Contribution:
        """Raises: as `ExactSum.check`."""
        return self._bounded.check(contribution)

    def zero(self) -> Kept:
        return Kept(self._statistic, self._trim)

    def add(self, total: Kept, contribution: Contribution) -> Kept:
        """`total`, changed in place; it holds on to the arrays."""
        total.contributions.append(contribution)
        return total

    def merge(self, first: Kept, second: Kept) -> Kept:
        """`first`, changed in place."""
        first.contributions += second.contributions
        return first


class BoundedNorm:
    """Another reducer behind a bound on the L2 norm of each contribution, over all its floating arrays together but
    buffers, which are no directions.

    A contribution beyond it is scaled down to it, or refused.
    """

    def __init__(self, reducer: Reducer[Any], most: float, *, refuse: bool) -> None:
        self._reducer = reducer
        self._most = most
        self._refuse = refuse
        self.keeps = reducer.keeps
        self.zero = reducer.zero
        self.add = reducer.add
        self.merge = reducer.merge

    def check(self, contribution: Contribution) -> Contribution:
        """Raises: `out-of-range`, of the other reducer or for the norm."""
        contribution = self._reducer.check(contribution)
        norm = l2_norm({name: array for name, array in contribution.arrays.items() if not is_buffer(name)})
        if norm <= self._most:
            return contribution
        if self._refuse:
            raise CodecError("out-of-range", f"an answer of norm {norm:.4g}; the run takes {self._most:g}")
        factor = self._most / norm
        clipped = {
            name: (array.astype(np.float64) * factor).astype(array.dtype)
            if array.dtype.kind == "f" and not is_buffer(name)
            else array
            for name, array in contribution.arrays.items()
        }
        return replace(contribution, arrays=clipped)


def l2_norm(arrays: Arrays) -> float:
    """Over all floating arrays. In an order of additions that is the same on every machine, which numpy's is not."""
    sums = []
    for array in arrays.values():
        flat = array.reshape(-1)
        for start in range(0, flat.size if array.dtype.kind == "f" else 0, _SQUARES):
            squares = np.zeros(_SQUARES)
            block = flat[start : start + _SQUARES]
            squares[: block.size] = block
            squares *= squares
            while squares.size > 1:
                half = squares.size // 2
                squares = squares[:half] + squares[half:]
            sums.append(float(squares[0]))
    return math.sqrt(math.fsum(sums))


def reducer_of(facts: RunFacts, weighting: Weighting) -> Reducer[Any]:
    """What the run wants of a method whose answers are averaged: the exact mean, unless `facts.robust` says more.

    A bound on norms bounds nothing while a claimed number of examples buys weight: behind one every client counts the
    same.
    """
    robust = facts.robust
    weighting = weighting if robust.max_norm is None else "uniform"
    reducer: Reducer[Any] = ExactSum(facts.bounds, weighting, aged=facts.asynchronous)
    if robust.statistic is not None:
        reducer = OrderStatistic(facts.bounds, robust.statistic, robust.trim)
    if robust.max_norm is not None:
        reducer = BoundedNorm(reducer, robust.max_norm, refuse=robust.refuse)
    return reducer
