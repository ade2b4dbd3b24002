"""The steps of `rans`, one symbol after the other: for streams of so few lanes that a numpy call per step costs more.

A stream that holds next to nothing has few lanes whatever the number of its symbols: a quarter of a million settled
counts in half a kilobyte took seconds at a lane or two.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from thinwire.codecs.errors import CodecError

MOST_LANES: Final = 16
"""Measured: from here on a call for all lanes is the faster one."""

Row = tuple[list[int], list[int]]
"""Of one table: the frequency of each symbol, and the slot behind its last one."""


def encode(
    states: list[int], symbols: NDArray[np.uint8], runs: Sequence[tuple[int, int]], rows: Sequence[Row], precision: int
) -> list[int]:
    """The words in the order in which they were moved out: the decoder's in reverse; `states` are left as they are at
    the end.
    """
    words = list[int]()
    mask, total, renorm = len(states) - 1, 1 << precision, 32 - precision
    given = symbols.tobytes()
    end = len(given)
    for table, size in reversed(runs):
        frequencies, ends = rows[table]
        for index in range(end - 1, end - 1 - size, -1):
            symbol = given[index]
            frequency = frequencies[symbol]
            state = states[index & mask]
            if state >= frequency << renorm:
                words.append(state & 0xFFFF)
                state >>= 16
            quotient, rest = divmod(state, frequency)
            states[index & mask] = quotient * total + rest + ends[symbol] - frequency
        end -= size
    return words


def decode(
    states: list[int], words: memoryview, runs: Sequence[tuple[int, int]], rows: Sequence[Row], precision: int
) -> tuple[bytearray, int]:
    """The symbols, and how many of the 16-bit words they took; `states` are left as they are at the end.

    Raises: `malformed`.
    """
    symbols = bytearray(sum(size for _, size in runs))
    mask, low, taken, first = len(states) - 1, (1 << precision) - 1, 0, 0
    for table, size in runs:
        frequencies, ends = rows[table]
        # Where nearly nothing is coded nearly all symbols are this one.
        usual = max(range(len(frequencies)), key=frequencies.__getitem__)
        end = ends[usual]
        begin = end - frequencies[usual]
        for index in range(first, first + size):
            state = states[index & mask]
            slot = state & low
            symbol = usual if begin <= slot < end else bisect_right(ends, slot)
            frequency = frequencies[symbol]
            state = frequency * (state >> precision) + slot - ends[symbol] + frequency
            if state < 1 << 16:
                if taken == len(words):
                    raise CodecError("malformed", "an entropy-coded stream is cut short")
                state = state << 16 | words[taken]
                taken += 1
            states[index & mask] = state
            symbols[index] = symbol
        first += size
    return symbols, taken
