"""The randomised Hadamard rotation: spreads every value over its block, so that no element stands out.

A. T. Suresh, F. X. Yu, S. Kumar, H. B. McMahan, "Distributed mean estimation with limited communication", ICML 2017,
section 4, in blocks of at most 4096 elements. Element-wise additions in a fixed order: the same bits everywhere.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from .counter import uniform_bits

LARGEST: Final = 4096


def rotated_size(count: int) -> int:
    """The number of elements behind the rotation: whole blocks of a power of two."""
    side = _side(count)
    return -(-count // side) * side


def rotate(values: NDArray[np.float32], seed: int, name: str) -> NDArray[np.float32]:
    """Signs from the seed, then the orthonormal Hadamard transform of each block; zeros fill the last one."""
    padded = np.zeros(rotated_size(len(values)), np.float32)
    padded[: len(values)] = values
    padded *= _signs(len(padded), seed, name)
    return _transform(padded, _side(len(values)))


def rotate_back(values: NDArray[np.float32], count: int, seed: int, name: str) -> NDArray[np.float32]:
    """The inverse, up to rounding: the first `count` elements."""
    plain = _transform(values.astype(np.float32), _side(count))
    plain *= _signs(len(values), seed, name)
    return plain[:count]


def _side(count: int) -> int:
    return min(LARGEST, 1 << max(0, count - 1).bit_length())


def _signs(count: int, seed: int, name: str) -> NDArray[np.float32]:
    bits = np.unpackbits(uniform_bits(seed, f"{name}/signs", -(-count // 32)).view(np.uint8), bitorder="little")
    return np.float32(1) - np.float32(2) * bits[:count]


def _transform(values: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """In place."""
    width = 1
    while width < side:
        pairs = values.reshape(-1, 2, width)
        difference = pairs[:, 0] - pairs[:, 1]
        pairs[:, 0] += pairs[:, 1]
        pairs[:, 1] = difference
        width *= 2
    values *= np.float32(1 / np.sqrt(side))
    return values
