"""Coding of byte symbols by tables that nobody sends: both ends count what has been coded so far.

Symbols are mostly one, `zero`, and the others are the rarer the farther they are from it: quantised updates, whose
sizes go by rows and columns. All of them, of all arrays, are coded in stages that grow by a third to a half each, in
one rANS stream of as many pieces. Before a stage the distance to expect of each of its symbols follows from the
distances so far in its row, its column and its array (their product, as of independent causes); its *level* is the
octave of that. A level has one table for all arrays: what was counted at this level, beside a geometric prior of the
mean that the level stands for. Integers only.

Where a symbol was rounded up by a random number u that both ends draw, it leaves zero only if its fraction is above the
threshold 1 - u (or, in the other direction, u): what counts is how many expected distances that is. So below half a
step to expect, levels are half octaves of this ratio, and symbols with u > 1/2 are mirrored around zero. At large steps
that is a third of all bits: universal quantisation (J. Ziv, "On universal quantization", IEEE Trans. Information Theory
31 (3), 1985), whose dither is known to both ends too.

Adaptive coding by classes of expected size: X. Wu, N. Memon, "Context-based, adaptive, lossless image coding", IEEE
Trans. Communications 45 (4), 1997; J. Rissanen, G. Langdon, "Universal modeling and coding", IEEE Trans. Information
Theory 27 (1), 1981. That it goes by rows and columns of a matrix, in stages, is ours.

Layout: zero, the lowest and the highest symbol (1 byte each), then the stream. codecs/README.md has the rules.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from thinwire.codecs.errors import CodecError

from .frequencies import share_out
from .rans import Decoder, Encoder, Runs, Tables, code_lengths
from .reading import Reader

Integers = NDArray[np.int64]
Shape = tuple[int, ...]
Drawn = NDArray[np.uint16]
"""Of every symbol the upper 16 bits of the shared random number by which it was rounded."""

_ONE: Final = 16
"""Expected distances have so many bits behind the point."""
_OF_ARRAY: Final = 8
"""So many symbols that are not there speak for the mean of all in that of an array."""
_OF_LINE: Final = 6
"""And for the array's in that of a row or a column."""
_DRAWN: Final = 20
"""Thresholds, in expected distances, have so many bits behind the point."""
_NEAREST: Final = 34
_FARTHEST: Final = 50
"""Twice the bits of thresholds from an eighth of an expected distance to 16, which are told apart."""
_LEVELS: Final = 64
"""Above the levels of distances are those of thresholds, two to the octave."""
_PRIOR: Final = 16
"""So many symbols speak for a level's prior."""
_FIRST_STAGE: Final = 22
"""Elements whose hash of 32 bits has no higher bit than these are in the first stage."""


class Coded:
    """Symbols of arrays of these shapes, one behind the other: how many bits they come to, and their stream."""

    def __init__(self, symbols: NDArray[np.uint8], shapes: Sequence[Shape], drawn: Drawn | None = None) -> None:
        zero = int(np.bincount(symbols, minlength=256).argmax())
        symbols = _mirrored(symbols, zero, drawn)
        self._header = bytes([zero, int(symbols.min(initial=zero)), int(symbols.max(initial=zero))])
        model = _Model(shapes, drawn, *self._header)
        self._pieces: list[tuple[NDArray[np.uint8], Runs, Tables]] = []
        length = 0
        for places, runs, tables in model.stages():
            piece = symbols[places]
            begin = 0
            for table, size in runs:
                found = np.bincount(piece[begin : begin + size], minlength=256)
                length += int((found * code_lengths(tables[table])).sum())
                begin += size
            model.learn(places, runs, piece)
            self._pieces.append((piece, runs, tables))
        self._bits = length >> 16
        self.bits = self._bits + 8 * len(self._header)

    def encode(self) -> bytes:
        """Header and stream."""
        encoder = Encoder(self._bits)
        for piece in reversed(self._pieces):
            encoder.put(*piece)
        return self._header + encoder.finished()


def decode(reader: Reader, shapes: Sequence[Shape], draw: Callable[[], Drawn | None]) -> NDArray[np.uint8]:
    """The symbols of arrays of these shapes, to the end of the reader. Raises: `malformed`."""
    zero, lowest, highest = reader.take(3)
    if not lowest <= zero <= highest:
        raise CodecError("malformed", "the usual symbol is none that occurs")
    decoder = Decoder(reader.rest)  # before anything is allocated for symbols that a header only promises
    symbols = np.empty(sum(math.prod(shape) for shape in shapes), np.uint8)
    drawn = draw()
    model = _Model(shapes, drawn, zero, lowest, highest)
    for places, runs, tables in model.stages():
        piece = decoder.take(runs, tables)
        model.learn(places, runs, piece)
        symbols[places] = piece
    decoder.end()
    reader.skip(len(reader.rest))
    return _mirrored(symbols, zero, drawn)


def _mirrored(symbols: NDArray[np.uint8], zero: int, drawn: Drawn | None) -> NDArray[np.uint8]:
    """Around zero, modulo 256, where the upper half was drawn: all then lead away from zero in one direction."""
    return symbols if drawn is None else np.where(drawn < 32768, symbols, np.uint8(2 * zero & 255) - symbols)


class _Model:
    """What is known before each stage."""

    def __init__(self, shapes: Sequence[Shape], drawn: Drawn | None, zero: int, lowest: int, highest: int) -> None:
        self._folded = None if drawn is None else np.minimum(drawn, 65535 - drawn)
        self._distances = np.abs(np.arange(256) - zero)
        self._allowed = slice(lowest, highest + 1)
        self._sums: list[Integers] = []
        self._counts: list[Integers] = []
        self._lines, self._array_of = _lines_of(shapes)
        for owners in self._array_of:
            self._sums.append(np.zeros(len(owners), np.int64))
            self._counts.append(np.zeros(len(owners), np.int64))
        self._levels: dict[int, Integers] = {}
        self._stage_of = np.concatenate([np.zeros(0, np.uint8), *(_stages(math.prod(shape)) for shape in shapes)])
        self._named: list[int] = []

    def stages(self) -> Iterator[tuple[NDArray[np.intp], Runs, Tables]]:
        """Of each stage where its symbols stand, levels ascending, each level's run, and the tables. `learn` from it
        before the next.
        """
        order = self._stage_of.argsort(kind="stable")
        for places in np.split(order, np.cumsum(np.bincount(self._stage_of))[:-1] if len(order) else []):
            if not len(places):
                continue
            levels = self._expected(places)
            by_level = levels.argsort(kind="stable")
            sizes = np.bincount(levels)
            self._named = np.flatnonzero(sizes).tolist()
            runs = [(index, int(sizes[level])) for index, level in enumerate(self._named)]
            yield places[by_level], runs, np.stack([self._table(level) for level in self._named])

    def learn(self, places: NDArray[np.intp], runs: Runs, piece: NDArray[np.uint8]) -> None:
        """Counts the symbols of the stage that was named last."""
        distances = self._distances[piece]
        for line, sums, counts in zip(self._lines, self._sums, self._counts, strict=True):
            owners = line[places]
            sums += np.bincount(owners, distances, len(sums)).astype(np.int64)
            counts += np.bincount(owners, minlength=len(counts))
        begin = 0
        for level, (_, size) in zip(self._named, runs, strict=True):
            self._levels[level] += np.bincount(piece[begin : begin + size], minlength=256)[self._allowed] << 15
            begin += size

    def _expected(self, places: NDArray[np.intp]) -> NDArray[np.uint8]:
        """The levels."""
        total, count = int(self._sums[0].sum()), int(self._counts[0].sum())
        overall = max(1, ((total + 1) << _ONE) // (count + 4))
        arrays = _mean(self._sums[0], self._counts[0], np.asarray(overall), _OF_ARRAY)
        rows, columns = (
            _mean(self._sums[index], self._counts[index], arrays[self._array_of[index]], _OF_LINE) for index in (1, 2)
        )
        array, row, column = (line[places] for line in self._lines)
        product = np.maximum(1, rows[row] * columns[column] // arrays[array])
        # Below 2**53: the exponent is that of the integer.
        levels = np.asarray(np.frexp(product.astype(np.float64))[1], np.uint8)
        if self._folded is None:
            return levels
        far = ((self._folded[places].astype(np.int64) + 1) << _DRAWN) // product
        bits = np.frexp(far.astype(np.float64))[1]
        far = 2 * bits + (far >> np.maximum(bits - 2, 0) & 1)
        thresholds = _LEVELS + np.clip(far, _NEAREST, _FARTHEST)
        return np.asarray(np.where(product < 1 << _ONE - 1, thresholds, levels), np.uint8)

    def _table(self, level: int) -> NDArray[np.uint32]:
        if level not in self._levels:
            self._levels[level] = _PRIOR * _prior(level, self._distances[self._allowed])
        table = np.zeros(256, np.uint32)
        table[self._allowed] = share_out(self._levels[level])
        return table


def _mean(sums: Integers, counts: Integers, wider: Integers, weight: int) -> Integers:
    """At least one unit of the last place."""
    return np.asarray(np.maximum(1, ((sums << _ONE) + weight * wider) // (counts + weight)), np.int64)


def _prior(level: int, distances: Integers) -> Integers:
    """Frequencies of symbols whose mean distance is in the middle of the level's octave: falling by the same ratio with
    every step away.
    """
    if level >= _LEVELS:
        bits, second = divmod(level - _LEVELS, 2)
        level = max(0, _ONE - 1 - ((2 + second) << (bits - 2) >> _DRAWN))
    mean, one = (3 << level) >> 2, 1 << _ONE
    ratio = (mean << _ONE) // (mean + one + (one << _ONE) // (one + mean))
    weights = [1 << 24]
    for _ in range(int(distances.max())):
        weights.append(weights[-1] * ratio >> _ONE)
    return share_out(np.maximum(1, np.array(weights, np.int64)[distances]))


def _lines_of(shapes: Sequence[Shape]) -> tuple[list[NDArray[np.int32]], list[NDArray[np.int32]]]:
    """Of every symbol its array, its row and its column, all numbered through; and of these each one's array."""
    lines: list[list[NDArray[np.int32]]] = [[], [], []]
    owners: list[list[NDArray[np.int32]]] = [[], [], []]
    begins = [0, 0, 0]
    for index, shape in enumerate(shapes):
        is_matrix = len(shape) > 1
        whole = (*shape[:2], math.prod(shape[2:])) if is_matrix else (1, 1, math.prod(shape))
        for kind, count in enumerate((1, *whole[:2])):
            numbers = np.arange(begins[kind], begins[kind] + count, dtype=np.int32)
            along = numbers.reshape((1, 1, 1) if kind == 0 else (-1, 1, 1) if kind == 1 else (1, -1, 1))
            lines[kind].append(np.broadcast_to(along, whole).reshape(-1))
            owners[kind].append(np.full(count, index, np.int32))
            begins[kind] += count
    return [_joined(line) for line in lines], [_joined(owner) for owner in owners]


def _joined(parts: list[NDArray[np.int32]]) -> NDArray[np.int32]:
    return np.concatenate([np.zeros(0, np.int32), *parts])


def _stages(count: int) -> NDArray[np.uint8]:
    """Of each of `count` elements: twice the bits of a hash of its index beyond the first stage's, and one more where
    the second of them is set.
    """
    mixed = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B1)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(0x85EBCA77)
    mixed ^= mixed >> np.uint32(13)
    bits = np.frexp(mixed.astype(np.float64))[1]
    second = mixed >> np.maximum(bits - 2, 0).astype(np.uint32) & np.uint32(1)
    return np.where(bits <= _FIRST_STAGE, 0, 2 * (bits - _FIRST_STAGE) + second - 1).astype(np.uint8)
