"""Putting elements of equal group side by side, and back: in tiles, so that sorting stays in the cache.

The group of an element is `group_of[key]`: keys are contexts, many of which may share a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[Any]
Groups = NDArray[np.uint8]
Sizes = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)

_LOG_TILE: Final = 16  # a place within a tile and a group fit into 32 bits together
_ENDS: Final = np.arange(1, 257, dtype=np.uint32) << np.uint32(_LOG_TILE)
_IDENTITY: Final = np.arange(256, dtype=np.uint8)


def tiles(count: int) -> Iterator[slice]:
    """Slices that cover `count` elements."""
    return (slice(begin, min(begin + (1 << _LOG_TILE), count)) for begin in range(0, count, 1 << _LOG_TILE))


def key_sizes(keys: Keys, count: int) -> Sizes:
    """The number of elements of each of `count` keys."""
    sizes = np.zeros(count, np.int64)
    for tile in tiles(len(keys)):
        sizes += np.bincount(keys[tile], minlength=count)
    return sizes


def group_sizes(sizes: Sizes, group_of: Groups) -> Sizes:
    """The number of elements in each of 256 groups, from those of each key."""
    found = np.zeros(256, np.int64)
    np.add.at(found, group_of, sizes)
    return found


def gather(values: NDArray[Scalar], keys: Keys, sizes: Sizes, group_of: Groups = _IDENTITY) -> NDArray[Scalar]:
    """The values, groups ascending, in their order within each. `sizes`: of the groups."""
    ordered = np.empty_like(values)
    for tile, order, pieces in _sorted_tiles(keys, sizes, group_of):
        in_order = values[tile] if order is None else values[tile][order]
        for source, target in pieces:
            ordered[target] = in_order[source]
    return ordered


def scatter(ordered: NDArray[Scalar], keys: Keys, sizes: Sizes, group_of: Groups = _IDENTITY) -> NDArray[Scalar]:
    """The inverse of `gather`."""
    values = np.empty_like(ordered)
    for tile, order, pieces in _sorted_tiles(keys, sizes, group_of):
        in_order = np.empty(tile.stop - tile.start, ordered.dtype)
        for source, target in pieces:
            in_order[source] = ordered[target]
        if order is None:
            values[tile] = in_order
        else:
            values[tile][order] = in_order
    return values


def _sorted_tiles(
    keys: Keys, sizes: Sizes, group_of: Groups
) -> Iterator[tuple[slice, NDArray[np.intp] | None, list[tuple[slice, slice]]]]:
    """Of every tile the stable order by group (None: as it is), and where its pieces lie, in that order and overall."""
    filled = np.cumsum(sizes) - sizes
    places = np.arange(1 << _LOG_TILE, dtype=np.uint32)
    for tile in tiles(len(keys)):
        groups = np.take(group_of, keys[tile])
        order = None
        if groups.min() == groups.max():
            edges = {int(groups[0]): (0, len(groups))}
        else:
            # Sorting whole numbers is several times faster than an argsort of bytes.
            packed = groups.astype(np.uint32)
            packed <<= np.uint32(_LOG_TILE)
            packed |= places[: len(groups)]
            packed.sort()
            ends = np.searchsorted(packed, _ENDS[:-1], "left").tolist()
            edges = {g: (b, e) for g, (b, e) in enumerate(pairwise([0, *ends, len(groups)])) if e > b}
            packed &= np.uint32((1 << _LOG_TILE) - 1)
            order = packed.astype(np.intp)
        pieces = []
        for group, (begin, end) in edges.items():
            at = int(filled[group])
            pieces.append((slice(begin, end), slice(at, at + end - begin)))
            filled[group] += end - begin
        yield tile, order, pieces
