"""Frequency tables of the entropy coder from one byte per probability: exact integers on every machine."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .rans import PRECISION, TOTAL

BIT_LEVELS: Final = 62
WEIGHT_LEVELS: Final = 256


@cache
def bit_probabilities() -> tuple[int, ...]:
    """2**16 times P(bit = 1) at each level: 3 t^2 - 2 t^3 at t = (2 level + 9) / 140, near the arcsine of p evenly
    spaced.

    From .012 to .988; rounding a probability to its level costs under 0.1 % of the entropy.
    """
    return tuple((((420 * t * t - 2 * t**3) << 17) // 140**3 + 1) >> 1 for t in range(9, 133, 2))


@cache
def eight_bits_table(level: int) -> NDArray[np.uint32]:
    """The frequencies of the 256 bytes made of eight independent bits of that level, summing to `TOTAL`.

    p^k (1 - p)^(8 - k) for k ones, rounded to a multiple of 1 / TOTAL and at least that; what is then missing or in
    excess goes to the byte of eight equal bits that is more likely.
    """
    p = bit_probabilities()[level]
    shift = 128 - PRECISION
    by_ones = [max(1, ((p**k * (65536 - p) ** (8 - k) >> shift - 1) + 1) >> 1) for k in range(9)]
    table = np.array([by_ones[byte.bit_count()] for byte in range(256)], np.int64)
    table[0 if p < 32768 else 255] += TOTAL - int(table.sum())
    return table.astype(np.uint32)


def weight_levels(counts: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The level of each symbol's weight: 0 where it does not occur, otherwise the nearest one, the largest count at
    255.
    """
    scaled = counts * _WEIGHTS[-1] // max(1, int(counts.max()))
    nearest = np.searchsorted(_WEIGHTS[1:-1] + _WEIGHTS[2:], 2 * scaled, "right") + 1
    return np.where(counts > 0, nearest, 0).astype(np.uint8)


def symbol_table(lowest: int, levels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """The frequencies of 256 symbols, summing to `TOTAL`, of which `levels` names those from `lowest` on.

    Level b stands for the weight (16 + b mod 16) * 2**(b div 16), 0 for none. A frequency is its share of TOTAL,
    rounded down and at least 1; what is then missing or in excess goes to the first symbol of the largest
    frequency. At least one level is above 0.
    """
    weights = _WEIGHTS[levels]
    shares = np.where(weights > 0, np.maximum(weights * TOTAL // int(weights.sum()), 1), 0)
    shares[int(np.argmax(shares))] += TOTAL - int(shares.sum())
    table = np.zeros(256, np.uint32)
    table[lowest : lowest + len(levels)] = shares
    return table


def _weights() -> NDArray[np.int64]:
    levels = np.arange(WEIGHT_LEVELS)
    weights = (16 + levels % 16) << (levels // 16)
    weights[0] = 0
    return weights.astype(np.int64)


_WEIGHTS: Final = _weights()
