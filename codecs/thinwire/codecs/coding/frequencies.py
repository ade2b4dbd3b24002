"""Frequency tables of the entropy coder from one byte per probability: exact integers on every machine."""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .rans import PRECISION, TOTAL

BIT_LEVELS: Final = 62
WEIGHT_LEVELS: Final = 256
MAX_LOG_SPACING: Final = 6


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


def knot_levels(counts: NDArray[np.int64], log_spacing: int) -> NDArray[np.uint8]:
    """Levels for `spread_levels` that suit these counts: of the mean count around each knot, the largest at 255.

    Only without spacing, a symbol that does not occur has level 0.
    """
    spacing = 1 << log_spacing
    knots = np.arange(0, len(counts) + spacing - 1, spacing)
    sums = np.concatenate([[0], np.cumsum(counts)])
    begins = np.clip(knots - spacing // 2, 0, len(counts) - 1)
    ends = np.clip(knots + spacing // 2 + 1, begins + 1, len(counts))
    means = ((sums[ends] - sums[begins]) << 20) // (ends - begins)
    scaled = means // max(1, int(means.max()) // int(_WEIGHTS[-1]) + 1)
    nearest = np.searchsorted(_WEIGHTS[1:-1] + _WEIGHTS[2:], 2 * scaled, "right") + 1
    return (nearest if spacing > 1 else np.where(counts > 0, nearest, 0)).astype(np.uint8)


def spread_levels(knots: NDArray[np.uint8], width: int, log_spacing: int) -> NDArray[np.int64]:
    """The levels of `width` symbols: those of the knots, 2**log_spacing symbols apart, and between them on a
    straight line.

    Between knots a and b, at i of s: a + floor(((b - a) i + s / 2) / s). Levels are logarithms, so a line is a
    falling or rising exponential.
    """
    places = np.arange(width)
    left, within = places >> log_spacing, places & ((1 << log_spacing) - 1)
    levels = knots.astype(np.int64)
    right = np.minimum(left + 1, len(levels) - 1)
    rise = (levels[right] - levels[left]) * within
    return np.asarray(levels[left] + ((rise + (1 << log_spacing >> 1)) >> log_spacing), np.int64)


def knots_of(width: int, log_spacing: int) -> int:
    """How many knots `width` symbols have: the last one at the last symbol or behind it."""
    return ((width - 1 + (1 << log_spacing) - 1) >> log_spacing) + 1


def symbol_table(lowest: int, levels: NDArray[np.int64]) -> NDArray[np.uint32]:
    """The frequencies of 256 symbols, summing to `TOTAL`, of which `levels` names those from `lowest` on.

    Level b stands for the weight (16 + b mod 16) * 2**(b div 16), 0 for none. A frequency is its share of TOTAL,
    rounded down and at least 1; what is then missing or in excess goes to the first symbol of the largest
    frequency. At least one level is above 0.
    """
    table = np.zeros(256, np.uint32)
    table[lowest : lowest + len(levels)] = share_out(_WEIGHTS[levels])
    return table


def share_out(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """`TOTAL` by these weights, at most 256 of them, one above 0: rounded down, at least 1 where there is any; what is
    then missing or in excess goes to the first of the largest.
    """
    shares = np.where(weights > 0, np.maximum(weights * TOTAL // int(weights.sum()), 1), 0)
    shares[int(np.argmax(shares))] += TOTAL - int(shares.sum())
    return np.asarray(shares, np.int64)


def _weights() -> NDArray[np.int64]:
    levels = np.arange(WEIGHT_LEVELS)
    weights = (16 + levels % 16) << (levels // 16)
    weights[0] = 0
    return weights.astype(np.int64)


_WEIGHTS: Final = _weights()
