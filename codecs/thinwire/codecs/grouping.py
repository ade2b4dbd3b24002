"""Putting elements of equal context side by side, and back: in tiles, so that sorting stays in the cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Groups = NDArray[np.uint8]
Sizes = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)

_TILE: Final = 1 << 16


def tiles(count: int) -> Iterator[slice]:
    """Slices that cover `count` elements."""
    return (slice(begin, min(begin + _TILE, count)) for begin in range(0, count, _TILE))


def group_sizes(groups: NDArray[Any], count: int = 256) -> Sizes:
    """The number of elements in each of `count` groups."""
    sizes = np.zeros(count, np.int64)
    for tile in tiles(len(groups)):
        sizes += np.bincount(groups[tile], minlength=count)
    return sizes


def gather(values: NDArray[Scalar], groups: Groups) -> NDArray[Scalar]:
    """The values, groups ascending, in their order within each."""
    ordered = np.empty_like(values)
    for tile, order, pieces in _sorted_tiles(groups):
        in_order = values[tile] if order is None else values[tile][order]
        for source, target in pieces:
            ordered[target] = in_order[source]
    return ordered


def scatter(ordered: NDArray[Scalar], groups: Groups) -> NDArray[Scalar]:
    """The inverse of `gather`."""
    values = np.empty_like(ordered)
    for tile, order, pieces in _sorted_tiles(groups):
        in_order = np.empty(tile.stop - tile.start, ordered.dtype)
        for source, target in pieces:
            in_order[source] = ordered[target]
        if order is None:
            values[tile] = in_order
        else:
            values[tile][order] = in_order
    return values


def _sorted_tiles(groups: Groups) -> Iterator[tuple[slice, NDArray[np.intp] | None, list[tuple[slice, slice]]]]:
    """Of every tile the stable order by group (None: as it is), and where its pieces lie in it and among all
    elements.
    """
    sizes = group_sizes(groups)
    filled = np.cumsum(sizes) - sizes
    for tile in tiles(len(groups)):
        part = groups[tile]
        here = np.bincount(part, minlength=256)
        present = np.flatnonzero(here)
        order = np.argsort(part, kind="stable") if len(present) > 1 else None
        pieces, begin = [], 0
        for group in present:
            size, at = int(here[group]), int(filled[group])
            pieces.append((slice(begin, begin + size), slice(at, at + size)))
            begin += size
        filled += here
        yield tile, order, pieces
