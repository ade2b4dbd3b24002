"""Coding of byte symbols, each context with a table of its own or an earlier one's.

Layout, of every context that has symbols, ascending, one byte: t from 1 to 255: the t-th newest of the tables so
far; 0: a new one: its lowest symbol, its highest, the logarithm of the spacing of its knots (0 to 6), and the level
of each knot (`frequencies`). Then one rANS stream of all symbols, the contexts ascending.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from thinwire.codecs.errors import CodecError

from .frequencies import MAX_LOG_SPACING, knot_levels, knots_of, spread_levels, symbol_table
from .rans import code_lengths, decode_symbols, encode_symbols
from .reading import Reader

MAX_TABLES: Final = 255


class Tables:
    """The frequency tables for contexts with these histograms, (contexts, 256), and how the header writes them.

    The last table that there may be fits all contexts that are left.
    """

    def __init__(self, histograms: Sequence[NDArray[np.int64]]) -> None:
        self.header = bytearray()
        self.rows: list[NDArray[np.uint32]] = []
        self.chosen: list[int] = []
        self.bits = 0
        lengths: list[NDArray[np.int64]] = []
        for index, histogram in enumerate(histograms):
            if not histogram.any():
                self.chosen.append(0)
                continue
            present = np.flatnonzero(histogram)
            header, own, cost = b"", np.zeros(0, np.uint32), 1 << 63
            if len(self.rows) < MAX_TABLES:
                is_last = len(self.rows) == MAX_TABLES - 1
                header, own, cost = _new_table(histogram, np.sum(histograms[index:], axis=0) if is_last else histogram)
            costs = [
                int((histogram * other).sum()) if (row[present] > 0).all() else 1 << 62
                for row, other in zip(self.rows, lengths, strict=True)
            ]
            best = min(range(len(costs)), key=costs.__getitem__, default=None)
            if best is not None and costs[best] <= cost:
                self.header.append(len(self.rows) - best)
                self.chosen.append(best)
                self.bits += costs[best] >> 16
            else:
                self.header += header
                self.chosen.append(len(self.rows))
                self.rows.append(own)
                lengths.append(code_lengths(own))
                self.bits += cost >> 16
        self.bits += 8 * len(histograms)

    def encode(self, symbols: NDArray[np.uint8], sizes: Sequence[int]) -> bytes:
        """Header and stream of symbols that stand in the order of their contexts, `sizes` of each."""
        if not len(symbols):
            return b""
        return bytes(self.header) + encode_symbols(
            symbols, list(zip(self.chosen, sizes, strict=True)), np.stack(self.rows)
        )


def _new_table(counts: NDArray[np.int64], fitted: NDArray[np.int64]) -> tuple[bytes, NDArray[np.uint32], int]:
    """How the header writes the cheapest table for symbols with these counts, made of those in `fitted`, which are no
    fewer; its row, and 2**16 times all its bits.
    """
    found: list[tuple[int, bytes, NDArray[np.uint32]]] = []
    present = np.flatnonzero(fitted)
    lowest, width = int(present[0]), int(present[-1] - present[0]) + 1
    histogram, fitted = counts[lowest : lowest + width], fitted[lowest : lowest + width]
    for log_spacing in range(MAX_LOG_SPACING + 1):
        knots = knot_levels(fitted, log_spacing)
        row = symbol_table(lowest, spread_levels(knots, width, log_spacing))
        header = bytes([0, lowest, lowest + width - 1, log_spacing]) + knots.tobytes()
        bits = int((histogram * code_lengths(row[lowest : lowest + width])).sum())
        found.append((bits + (8 * len(header) << 16), header, row))
        if width <= 1 << log_spacing:
            break
    cost, header, row = min(found, key=lambda candidate: candidate[0])
    return header, row, cost


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
            rows.append(_read_table(reader))
        runs.append((len(rows) - max(back, 1), size))
    if not rows:
        reader.end()
        return np.empty(0, np.uint8)
    symbols = decode_symbols(reader.rest, runs, np.stack(rows))
    reader.skip(len(reader.rest))
    return symbols


def _read_table(reader: Reader) -> NDArray[np.uint32]:
    lowest, highest, log_spacing = reader.byte(), reader.byte(), reader.byte()
    if lowest > highest or log_spacing > MAX_LOG_SPACING:
        raise CodecError("malformed", "a table of no symbols, or without knots")
    width = highest - lowest + 1
    knots = np.frombuffer(reader.take(knots_of(width, log_spacing)), np.uint8)
    if not knots.all() if log_spacing else not knots.any():
        raise CodecError("malformed", "a table of nothing")
    return symbol_table(lowest, spread_levels(knots, width, log_spacing))
