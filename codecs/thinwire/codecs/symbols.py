"""Coding of byte symbols, each context with a table of its own, of an earlier one's, or without one.

Layout, of every context that has symbols, ascending: one byte: 0 a new table, t >= 1 the t-th table before the
newest one, counted from 1 for the newest; a new table is its lowest symbol, its highest, and one level
(`frequencies`) for each from the lowest to the highest. Then one rANS stream of all symbols, the contexts
ascending.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .errors import CodecError
from .frequencies import symbol_table, weight_levels
from .rans import code_lengths, decode_symbols, encode_symbols
from .reading import Reader

MAX_TABLES: Final = 255


class Tables:
    """The frequency tables for contexts with these histograms, (contexts, 256), and how the header writes them."""

    def __init__(self, histograms: Sequence[NDArray[np.int64]]) -> None:
        self.header = bytearray()
        self.rows: list[NDArray[np.uint32]] = []
        self.chosen: list[int] = []
        self.bits = 0
        lengths: list[NDArray[np.int64]] = []
        for histogram in histograms:
            if not histogram.any():
                self.chosen.append(0)
                continue
            present = np.flatnonzero(histogram)
            lowest, highest = int(present[0]), int(present[-1])
            levels = weight_levels(histogram[lowest : highest + 1])
            own = symbol_table(lowest, levels)
            own_lengths = code_lengths(own)
            costs = [
                int((histogram * other).sum()) if (row[present] > 0).all() else 1 << 62
                for row, other in zip(self.rows, lengths, strict=True)
            ]
            cost = int((histogram * own_lengths).sum()) + (8 * (len(levels) + 2) << 16)
            best = min(range(len(costs)), key=costs.__getitem__, default=None)
            if best is not None and costs[best] <= cost:
                self.header.append(len(self.rows) - best)
                self.chosen.append(best)
                self.bits += costs[best] >> 16
            else:
                self.header += bytes([0, lowest, highest]) + levels.tobytes()
                self.chosen.append(len(self.rows))
                self.rows.append(own)
                lengths.append(own_lengths)
                self.bits += cost >> 16
        self.bits += 8 * len(histograms)

    def encode(self, symbols: NDArray[np.uint8], sizes: Sequence[int]) -> bytes:
        """Header and stream of symbols that stand in the order of their contexts, `sizes` of each."""
        if not len(symbols):
            return b""
        return bytes(self.header) + encode_symbols(
            symbols, list(zip(self.chosen, sizes, strict=True)), np.stack(self.rows)
        )


def decode_contexts(reader: Reader, sizes: Sequence[int]) -> NDArray[np.uint8]:
    """The symbols of contexts of these sizes, to the end of the reader. Raises: `malformed`."""
    rows: list[NDArray[np.uint32]] = []
    runs: list[tuple[int, int]] = []
    for size in sizes:
        if not size:
            continue
        back = reader.byte()
        if back > len(rows) or (not back and len(rows) >= MAX_TABLES):
            raise CodecError("malformed", "a table that was never given")
        if not back:
            lowest, highest = reader.byte(), reader.byte()
            if lowest > highest:
                raise CodecError("malformed", "a table of no symbols")
            levels = np.frombuffer(reader.take(highest - lowest + 1), np.uint8)
            if not levels[0] or not levels[-1]:
                raise CodecError("malformed", "a table that is wider than its symbols")
            rows.append(symbol_table(lowest, levels))
        runs.append((len(rows) - max(back, 1), size))
    if not rows:
        reader.end()
        return np.empty(0, np.uint8)
    symbols = decode_symbols(reader.rest, runs, np.stack(rows))
    reader.skip(len(reader.rest))
    return symbols
