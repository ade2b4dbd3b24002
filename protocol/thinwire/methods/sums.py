"""Exact sums: integer addition is associative and commutative, so any order of arrival gives the same bits."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from thinwire.codecs import Array, Arrays, CodecError

from .arrays import is_buffer, own_name
from .reducers import Bounds
from .values import Contribution

Weighting = Literal["examples", "uniform"]
# 128 Ki elements: 1 MiB temporaries stay in cache and below what the allocator maps anew each time, and memory does
# not grow with the largest array.
_BLOCK = 1 << 17
WIDEST: Final = 2.0**80
"""The largest |x| of a buffer: a variance is the square of what a column holds, in whatever unit."""
_FINEST: Final = 60
_AGED_BITS: Final = 16
"""Of the fraction of a weight that staleness lowers."""


class Means(ABC):
    """What a server half reads of a total whose answers are averaged."""

    __slots__ = ()

    @property
    @abstractmethod
    def names(self) -> list[str]:
        """Of the arrays that were contributed."""

    @abstractmethod
    def mean(self, name: str) -> NDArray[np.float64]:
        """Of one array over the contributions that held it, float64."""

    @property
    def means(self) -> Arrays:
        """`mean` of every array, made when it is asked for: all of them at once would be twice the model."""
        return Lazy(self.names, self.mean)


@dataclass(slots=True)
class Total(Means):
    """The sum of contributions: `sums[name]` = sum of rint(n_k * x * 2**shifts[name]) as int64. `fine[name]`, of
    buffers: what `sums[name]` rounds away, in the same way, part by part.

    `weight` = sum of n_k over all contributions, `weights[name]` over those that held the array, `count` = how many.
    """

    count: int = 0
    weight: int = 0
    sums: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    shifts: dict[str, int] = field(default_factory=dict)
    weights: dict[str, int] = field(default_factory=dict)
    fine: dict[str, list[tuple[int, NDArray[np.int64]]]] = field(default_factory=dict)

    def sum(self, name: str) -> NDArray[np.float64]:
        """sum of n_k x_k, float64."""
        # ldexp converts block by block: no second copy of the array.
        found = np.ldexp(self.sums[name], -self.shifts[name])
        for shift, part in self.fine.get(name, ()):
            found += np.ldexp(part, -shift)
        return found

    def mean(self, name: str) -> NDArray[np.float64]:
        """sum of n_k x_k / sum of n_k over the contributions that held the array, float64."""
        found = self.sum(name)
        found /= self.weights[name]
        return found

    @property
    def names(self) -> list[str]:
        return list(self.sums)


class Lazy(Mapping[str, Array]):
    """Arrays that are made anew whenever one is asked for."""

    def __init__(self, names: Collection[str], make: Callable[[str], Array]) -> None:
        self._names = names
        self._make = make

    def __getitem__(self, name: str) -> Array:
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


class ExactSum:
    """The reducer of every method whose answer is summed. Floats are summed in fixed point, integers and bools as such.

    Fixed point: with s = floor(62 - log2(clients * weight * value)) no sum overflows, and each product n_k * x is
    rounded once, by at most 2**-(s + 1); of a float64 x also to 53 bits.

    `aged`: of an asynchronous run, whose answers weigh n_k / sqrt(1 + staleness) (Nguyen et al., AISTATS 2022, section
    5.1): as an integer of 2**-16, so that weights add up exactly too. Where no answer is stale, means have the same
    bits as without.
    """

    keeps = False

    def __init__(self, bounds: Bounds, weighting: Weighting = "examples", *, aged: bool = False) -> None:
        self._bounds = bounds
        self._weighting = weighting
        most = bounds.clients * (bounds.examples if weighting == "examples" else 1)
        self._aged = _AGED_BITS if aged else 0
        self._shift = math.floor(62 - math.log2(most * bounds.value)) - self._aged
        self._wide_shifts = [shift - self._aged for shift in _wide_shifts(bounds.clients, most)]
        self._largest_integer = (1 << 62) // (most << self._aged)

    def _weight(self, contribution: Contribution) -> int:
        weight = contribution.examples if self._weighting == "examples" else 1
        if not self._aged:
            return weight
        # Of integers below 2**53, each operation rounded as IEEE 754 has it: the same on every machine.
        return max(1, round((weight << self._aged) / math.sqrt(1 + contribution.staleness)))

    def check(self, contribution: Contribution) -> Contribution:
        """The contribution itself.

        Raises: `out-of-range` (a value that is not finite or beyond the bounds, or a weight that is).
        """
        if not 1 <= contribution.examples <= self._bounds.examples:
            raise CodecError(
                "out-of-range", f"{contribution.examples} examples; a run takes 1 to {self._bounds.examples}"
            )
        for name, array in contribution.arrays.items():
            bound = self._bounds.value if array.dtype.kind == "f" else self._largest_integer
            if is_buffer(name) and array.dtype.kind == "f":
                bound = WIDEST
            if array.dtype.kind == "b" or not array.size:
                continue
            # As Python numbers: a float16 is not to be compared in float16. A NaN fails both comparisons.
            if not (array.min().item() >= -bound and array.max().item() <= bound):
                what = f"buffer {own_name(name)!r}" if is_buffer(name) else f"array {name!r}"
                raise CodecError("out-of-range", f"{what} holds a value that is not within +-{bound:g}")
        return contribution

    def zero(self) -> Total:
        return Total()

    def add(self, total: Total, contribution: Contribution) -> Total:
        """`total`, changed in place. The contribution has passed `check`."""
        weight = self._weight(contribution)
        total.count += 1
        total.weight += weight
        for name, array in contribution.arrays.items():
            floating = array.dtype.kind == "f"
            if floating and is_buffer(name):
                total.weights[name] = total.weights.get(name, 0) + weight
                self._add_wide(total, name, array, weight)
                continue
            first = name not in total.sums
            if first:
                # Written once, by what is added. Not np.zeros: its fresh pages are small ones, and the first addition
                # pays a fault for each, measured 1.2 s for 400 MB on a virtual machine where huge pages take 0.07 s.
                total.sums[name] = np.empty(array.shape, np.int64)
                total.shifts[name] = self._shift if floating else 0
                total.weights[name] = 0
            total.weights[name] += weight
            into = total.sums[name].reshape(-1)
            flat = array.reshape(-1)
            for start in range(0, flat.size, _BLOCK):
                block, place = flat[start : start + _BLOCK], into[start : start + _BLOCK]
                if floating:
                    scaled = block.astype(np.float64)
                    scaled *= math.ldexp(weight, self._shift)
                    added = np.rint(scaled, out=scaled)
                else:
                    added = block.astype(np.int64)
                    added *= weight
                if first:
                    place[:] = added
                else:
                    place += added.astype(np.int64, copy=False)
        return total

    def _add_wide(self, total: Total, name: str, array: Array, weight: int) -> None:
        """In as many integers a number as hold it: from `WIDEST` down to 2**-60, whatever order they come in."""
        rest = array.astype(np.float64) * weight
        parts: list[tuple[int, NDArray[np.int64]]] = []
        for shift in self._wide_shifts:
            part = np.rint(np.ldexp(rest, shift))
            rest = rest - np.ldexp(part, -shift)
            parts.append((shift, part.astype(np.int64)))
        if name not in total.sums:
            total.shifts[name], total.sums[name] = parts[0]
            total.fine[name] = parts[1:]
            return
        total.sums[name] += parts[0][1]
        for (_, into), (_, part) in zip(total.fine[name], parts[1:], strict=True):
            into += part

    def merge(self, first: Total, second: Total) -> Total:
        """`first`, changed in place."""
        first.count += second.count
        first.weight += second.weight
        for name, array in second.sums.items():
            if name in first.sums:
                first.sums[name] += array
                first.weights[name] += second.weights[name]
                for (_, into), (_, part) in zip(first.fine.get(name, ()), second.fine.get(name, ()), strict=True):
                    into += part
            else:
                first.sums[name] = array.copy()
                first.shifts[name] = second.shifts[name]
                first.weights[name] = second.weights[name]
                if name in second.fine:
                    first.fine[name] = [(shift, part.copy()) for shift, part in second.fine[name]]
        return first


def _wide_shifts(clients: int, most: int) -> list[int]:
    """How far the parts of a wide sum are shifted: the first holds `most` times `WIDEST`, each further one what the one
    before rounds away, until 2**-60 is told.
    """
    shifts = [math.floor(62 - math.log2(most * WIDEST))]
    while shifts[-1] < _FINEST:
        shifts.append(shifts[-1] + math.floor(62 - math.log2(clients)))
    return shifts
