"""Floating arrays a block at a time: conversions to float64 then cost no memory of the array's size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from .errors import CodecError
from .spec import Array

BLOCK: Final = 1 << 16


def slices(count: int) -> Iterator[slice]:
    """Slices of at most `BLOCK` that cover `count` elements."""
    return (slice(begin, min(begin + BLOCK, count)) for begin in range(0, count, BLOCK))


def require_finite(name: str, array: Array) -> None:
    """Raises `out-of-range` if an element is not finite."""
    flat = array.reshape(-1)
    if not all(np.isfinite(flat[part]).all() for part in slices(len(flat))):
        raise CodecError("out-of-range", f"array {name!r} holds a value that is not finite")
