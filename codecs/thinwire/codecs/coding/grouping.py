"""Putting elements of equal group side by side, and back: in tiles, so that sorting stays in the cache.

The group of an element is `group_of[key]`: keys are contexts, many of which may share a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[Any]
Groups = NDArray[np.uint8]
Sizes = NDArray[np.int64]
Indices = NDArray[np.intp]
Scalar = TypeVar("Scalar", bound=np.generic)

_TILE: Final = 1 << 14  # indices of a tile fit into a small cache
_IDENTITY: Final = np.arange(256, dtype=np.uint8)


def tiles(count: int) -> Iterator[slice]:
    """Slices that cover `count` elements."""
    return (slice(begin, min(begin + _TILE, count)) for begin in range(0, count, _TILE))


def key_sizes(keys: Keys, count: int) -> Sizes:
    """The number of elements of each of `count` keys."""
    sizes = np.zeros(count, np.int64)
    for tile in tiles(len(keys)):
        sizes += np.bincount(keys[tile], minlength=count)
    return sizes


def pair_sizes(keys: Keys, values: NDArray[Any], count: int, log_values: int) -> Sizes:
    """The number of elements of each of `count` keys with each of 2**log_values values: (count, 2**log_values)."""
    sizes = np.zeros(count << log_values, np.int64)
    for tile in tiles(len(keys)):
        pairs = keys[tile].astype(np.uint16)
        pairs <<= np.uint16(log_values)
        pairs |= values[tile]
        sizes += np.bincount(pairs, minlength=len(sizes))
    return sizes.reshape(count, -1)


def group_sizes(sizes: Sizes, group_of: Groups) -> Sizes:
    """The number of elements in each of 256 groups, from those of each key."""
    found = np.zeros(256, np.int64)
    np.add.at(found, group_of, sizes)
    return found


def gather(values: NDArray[Scalar], keys: Keys, sizes: Sizes, group_of: Groups = _IDENTITY) -> NDArray[Scalar]:
    """The values, groups ascending, in their order within each. `sizes`: of the groups."""
    ordered = np.empty_like(values)
    for tile, order, target in _sorted_tiles(keys, sizes, group_of):
        ordered[target] = np.take(values[tile], order)
    return ordered


def scatter(ordered: NDArray[Scalar], keys: Keys, sizes: Sizes, group_of: Groups = _IDENTITY) -> NDArray[Scalar]:
    """The inverse of `gather`."""
    values = np.empty_like(ordered)
    for tile, order, target in _sorted_tiles(keys, sizes, group_of):
        values[tile][order] = np.take(ordered, target)
    return values


def _sorted_tiles(keys: Keys, sizes: Sizes, group_of: Groups) -> Iterator[tuple[slice, Indices, Indices]]:
    """Of every tile the stable order by group, and the places overall of the elements in that order."""
    present = np.flatnonzero(sizes).astype(np.uint8)
    filled = np.cumsum(sizes[present]) - sizes[present]
    places = np.arange(_TILE)
    for tile in tiles(len(keys)):
        groups = np.take(group_of, keys[tile])
        # The stable sort of bytes is one pass of a radix sort.
        order = groups.argsort(kind="stable")
        ends = groups.searchsorted(present, "right", order)
        counts = np.diff(ends, prepend=0)
        target = np.repeat(filled - (ends - counts), counts)
        target += places[: len(groups)]
        filled += counts
        yield tile, order, target
