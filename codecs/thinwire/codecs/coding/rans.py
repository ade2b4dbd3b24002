"""Entropy coding of byte symbols: interleaved range asymmetric numeral systems (rANS), integers only.

J. Duda, "Asymmetric numeral systems: entropy coding combining speed of Huffman coding with compression rate of
arithmetic coding", arXiv 1311.2540; interleaved as in F. Giesen, "Interleaved entropy coders", arXiv 1402.3392. A lane
holds a 32-bit state of at least 2**16 and moves 16-bit words; frequencies sum to 2**15. Symbol i belongs to lane
i mod lanes, so one step over all lanes is a handful of numpy calls. The price of a lane is about 3 bytes.

Layout: log2 of the number of lanes (one byte), the decoder's first state of every lane (u32), then the words (u16) in
the order in which the decoder takes them: after each step, one for every lane whose state has fallen below 2**16, in
the order of lanes. Little-endian throughout. After the last step every state is 2**16 and no word is left. A stream
may be made of pieces whose tables follow from the symbols of those before them; each begins at the first lane.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from thinwire.codecs.errors import CodecError

from . import rans_few_lanes
from .grouping import key_sizes

PRECISION: Final = 15
TOTAL: Final = 1 << PRECISION
MAX_LOG_LANES: Final = 10
_LOWEST: Final = np.uint32(1 << 16)
_SLOT: Final = np.uint32(TOTAL - 1)
_PRECISION: Final = np.uint32(PRECISION)
_RENORM: Final = np.uint32(32 - PRECISION)
_SIXTEEN: Final = np.uint32(16)
_LOW: Final = np.uint32(0xFFFF)
_CHUNK: Final = 1 << 15  # symbols whose table entries are looked up at once
_WORTH_A_TABLE: Final = 4  # slots per symbol; with fewer symbols a decoder searches, and allocates no table of slots

_CUT_SHORT: Final = "an entropy-coded stream is cut short"

Tables = NDArray[np.uint32]
"""(tables, 256): the frequency of each symbol; a row sums to `TOTAL`, and 0 means that it cannot be coded."""
Runs = Sequence[tuple[int, int]]
"""(table, number of symbols): symbols stand in the order of their runs."""


def encode_symbols(symbols: NDArray[np.uint8], runs: Runs, tables: Tables) -> bytes:
    """The stream. Every symbol has a frequency above 0 in the table of its run."""
    encoder = Encoder(_code_length(symbols, runs, tables))
    encoder.put(symbols, runs, tables)
    return encoder.finished()


def decode_symbols(data: memoryview, runs: Runs, tables: Tables) -> NDArray[np.uint8]:
    """The symbols of a stream that takes all of `data`. Raises: `malformed`."""
    decoder = Decoder(data)
    symbols = decoder.take(runs, tables)
    decoder.end()
    return symbols


class Encoder:
    """A stream of one piece or more, each beginning at the first lane; the last piece is put first. `bits`: about how
    many there will be.
    """

    def __init__(self, bits: int) -> None:
        self._log_lanes = _log_lanes(bits)
        self._states = np.full(1 << self._log_lanes, _LOWEST, np.uint32)
        self._words: list[NDArray[np.uint16]] = []

    def put(self, symbols: NDArray[np.uint8], runs: Runs, tables: Tables) -> None:
        """The piece before those that were put already."""
        lanes = len(self._states)
        if lanes <= rans_few_lanes.MOST_LANES:
            states = self._states.tolist()
            moved_out = rans_few_lanes.encode(states, symbols, runs, _rows(tables), PRECISION)
            self._states = np.array(states, np.uint32)
            self._words.append(np.array(moved_out[::-1], "<u2"))
        else:
            self._words.append(self._moved_out(symbols, runs, tables))

    def _moved_out(self, symbols: NDArray[np.uint8], runs: Runs, tables: Tables) -> NDArray[np.uint16]:
        states, lanes, count = self._states, len(self._states), len(symbols)
        starts = np.cumsum(tables, axis=1, dtype=np.uint32) - tables
        words = np.empty(count + lanes, "<u2")
        first = len(words)
        steps = max(1, _CHUNK // lanes)
        table_of = _tables_of(runs)
        flat_tables, flat_starts = tables.reshape(-1), starts.reshape(-1)
        for begin in reversed(range(0, count, steps * lanes)):
            chunk = symbols[begin : begin + steps * lanes]
            index = (table_of[begin : begin + len(chunk)].astype(np.intp) << 8) + chunk
            frequencies, offsets = flat_tables.take(index), flat_starts.take(index)
            spare = np.uint32(TOTAL) - frequencies
            limits = (frequencies << _RENORM) - np.uint32(1)  # of the frequency TOTAL: 2**32 - 1
            for low in reversed(range(0, len(chunk), lanes)):
                part = slice(low, low + lanes)
                f = frequencies[part]
                x = states[: len(f)]
                full = (x > limits[part]).nonzero()[0]
                if len(full):
                    moved = x[full]
                    words[first - len(full) : first] = moved  # the lower half
                    first -= len(full)
                    moved >>= _SIXTEEN
                    x[full] = moved
                quotient = x // f
                quotient *= spare[part]
                x += quotient
                x += offsets[part]
        return words[first:]

    def finished(self) -> bytes:
        """The whole stream."""
        words = b"".join(piece.tobytes() for piece in reversed(self._words))
        return bytes([self._log_lanes]) + self._states.astype("<u4").tobytes() + words


class Decoder:
    """Takes the pieces of a stream that is all of `data`, the first one first. Raises: `malformed`."""

    def __init__(self, data: memoryview) -> None:
        log_lanes = data[0] if len(data) else MAX_LOG_LANES + 1
        lanes = 1 << min(log_lanes, MAX_LOG_LANES)
        head = 1 + 4 * lanes
        if log_lanes > MAX_LOG_LANES or len(data) < head or (len(data) - head) % 2:
            raise CodecError("malformed", _CUT_SHORT)
        self._states = np.frombuffer(data, "<u4", lanes, 1).astype(np.uint32)
        self._words = np.frombuffer(data, "<u2", (len(data) - head) // 2, head)
        self._taken = 0
        if (self._states < _LOWEST).any():
            raise CodecError("malformed", "an entropy-coded stream starts with a state that no encoder ends with")

    def end(self) -> None:
        """Raises `malformed` where the stream goes on."""
        if self._taken != len(self._words) or (self._states != _LOWEST).any():
            raise CodecError("malformed", "an entropy-coded stream does not end where it should")

    def take(self, runs: Runs, tables: Tables) -> NDArray[np.uint8]:
        """The symbols of the next piece. Raises: `malformed`."""
        if len(self._states) > rans_few_lanes.MOST_LANES:
            return self._take(runs, tables)
        states = self._states.tolist()
        words = self._words[self._taken :].astype(np.uint16).data
        found, taken = rans_few_lanes.decode(states, words, runs, _rows(tables), PRECISION)
        self._states = np.array(states, np.uint32)
        self._taken += taken
        return np.frombuffer(found, np.uint8)

    def _take(self, runs: Runs, tables: Tables) -> NDArray[np.uint8]:
        states, words, lanes = self._states, self._words, len(self._states)
        table_of = _tables_of(runs)
        count = len(table_of)
        # The slots of all tables in a row: those of symbol 256 t + s end at its entry.
        frequencies = tables.reshape(-1)
        ends = np.cumsum(frequencies, dtype=np.uint32)
        by_slot = len(tables) * TOTAL <= _WORTH_A_TABLE * count
        if by_slot:
            # frequency << 16 | slot - start: a state can then move without knowing its symbol.
            moves = np.repeat((frequencies << _SIXTEEN) - (ends - frequencies), frequencies)
            for index, row in enumerate(moves.reshape(-1, TOTAL)):
                row += np.arange(TOTAL, dtype=np.uint32) + np.uint32(index * TOTAL)
            symbol_of = np.repeat(np.tile(np.arange(256, dtype=np.uint8), len(tables)), frequencies)
        else:
            starts = ends - frequencies
        symbols = np.empty(count, np.uint8)
        taken = self._taken
        steps = max(1, _CHUNK // lanes)
        for begin in range(0, count, steps * lanes):
            slots = table_of[begin : begin + steps * lanes].astype(np.uint32) << _PRECISION
            for low in range(0, len(slots), lanes):
                slot = slots[low : low + lanes]
                x = states[: len(slot)]
                slot += x & _SLOT
                x >>= _PRECISION
                if by_slot:
                    move = moves.take(slot)
                    x *= move >> _SIXTEEN
                    move &= _LOW
                    x += move
                else:
                    symbol = ends.searchsorted(slot, "right")
                    x *= frequencies.take(symbol)
                    x += slot
                    x -= starts.take(symbol)
                    slot[...] = symbol
                empty = (x < _LOWEST).nonzero()[0]
                if len(empty):
                    given = words[taken : taken + len(empty)]
                    if len(given) < len(empty):
                        raise CodecError("malformed", _CUT_SHORT)
                    moved = x[empty]
                    moved <<= _SIXTEEN
                    moved |= given
                    x[empty] = moved
                    taken += len(empty)
            symbols[begin : begin + len(slots)] = symbol_of.take(slots) if by_slot else slots
        self._taken = taken
        return symbols


def _rows(tables: Tables) -> list[rans_few_lanes.Row]:
    return [(row.tolist(), np.cumsum(row).tolist()) for row in tables]


def _tables_of(runs: Runs) -> NDArray[np.uint16]:
    """The index of every symbol's table."""
    return np.repeat(np.array([table for table, _ in runs], np.uint16), [size for _, size in runs])


def _log_lanes(bits: int) -> int:
    """As many lanes as cost about a third of a percent of the stream."""
    return min(MAX_LOG_LANES, max(0, (bits // 7000).bit_length() - 1))


def _code_length(symbols: NDArray[np.uint8], runs: Runs, tables: Tables) -> int:
    """The bits of symbols in the order of their runs."""
    bits = 0
    begin = 0
    for table, size in runs:
        counts = key_sizes(symbols[begin : begin + size], 256)
        bits += int((counts * code_lengths(tables[table])).sum()) >> 16
        begin += size
    return bits


def code_lengths(frequencies: NDArray[np.uint32]) -> NDArray[np.int64]:
    """2**16 times the bits that a symbol of each frequency costs; 2**22 where it cannot be coded."""
    lengths = (PRECISION << 16) - log2_fixed(frequencies.astype(np.int64))
    return np.asarray(np.where(frequencies > 0, lengths, 1 << 22), np.int64)


_MANTISSAS: Final = np.rint(65536 * np.log2(1 + np.arange(4096) / 4096)).astype(np.int64)


def log2_fixed(values: NDArray[np.int64]) -> NDArray[np.int64]:
    """floor-ish 2**16 log2 of integers below 2**52, 0 of 0: from 12 bits of mantissa, the same on every machine."""
    exponents = np.frexp(np.maximum(values, 1).astype(np.float64))[1].astype(np.int64) - 1
    mantissas = np.where(
        exponents > 12, values >> np.maximum(exponents - 12, 0), values << np.maximum(12 - exponents, 0)
    )
    return np.asarray((exponents << 16) + _MANTISSAS[np.maximum(mantissas, 4096) - 4096], np.int64)
