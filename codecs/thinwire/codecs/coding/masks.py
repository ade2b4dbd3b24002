"""Coding of bits whose probabilities depend on a context that both ends know.

Bits of a context are independent and alike; the header says how likely a one is in each, by one byte: its
*descriptor*. Bits of equal descriptors are coded together, so contexts may be many. Rare ones (or zeros) are coded as
gaps, all other bits eight at a time.

Layout: the descriptors of the contexts that occur, ascending, in runs (`pack_runs`); then, of each descriptor from
64 on, in ascending order, the number of its rarer bits (varint) and their gaps (`gaps`); then, if a descriptor from
2 to 63 occurs, one rANS stream of their bits, each descriptor's in ascending order, in bytes with the first bit
lowest, zeros up to a whole byte. Descriptors: 0 all zeros; 1 all ones; 2 + level (`frequencies`); 64 + c gaps
between ones; 160 + c gaps between zeros, with M = (8 + c mod 8) * 2**(c div 8).
"""

from __future__ import annotations

from itertools import groupby
from typing import Final

import numpy as np
from numpy.typing import NDArray

from thinwire.codecs.errors import CodecError

from .frequencies import BIT_LEVELS, bit_probabilities, eight_bits_table
from .gaps import best_parameter, decode_gaps, encode_gaps
from .grouping import Groups, Keys, Sizes, gather, group_sizes, pair_sizes, scatter
from .rans import decode_symbols, encode_symbols, log2_fixed
from .reading import Reader, varint

Bits = NDArray[np.bool_]
Counted = tuple[Sizes, Sizes]
"""The number of bits, and of ones among them, of each key."""

MAX_KEYS: Final = 1 << 14
_GAPS: Final = 64
_ZERO_GAPS: Final = 160
_SPARSE: Final = 28  # gaps are the shorter code where fewer than one bit in so many differs


def count_bits(bits: Bits, keys: Keys, count: int) -> Counted:
    """The number of bits, and of ones, of each of `count` keys."""
    both = pair_sizes(keys, bits, count, 1)
    return both.sum(1), both[:, 1].copy()


def estimated_bits(counted: Counted, width: int = 1) -> int:
    """About what `encode_bits` takes: the contexts' entropy and their descriptors."""
    sizes, ones = (part.reshape(-1, width).sum(1) for part in counted)
    zeros = sizes - ones
    entropy = sizes * log2_fixed(sizes) - ones * log2_fixed(ones) - zeros * log2_fixed(zeros)
    return (int(entropy.sum()) >> 16) + 8 * int(np.count_nonzero((ones > 0) & (zeros > 0))) + 40


def _describe(sizes: Sizes, ones: Sizes) -> Groups:
    """The descriptor of each context; 0 of one without bits."""
    found = np.zeros(len(sizes), np.uint8)
    for index in np.flatnonzero(ones):
        found[index] = _descriptor(int(sizes[index]), int(ones[index]))
    return found


def _descriptor(size: int, ones: int) -> int:
    zeros = size - ones
    if not ones or not zeros:
        return 1 if ones else 0
    if min(ones, zeros) * _SPARSE < size:
        parameter = best_parameter(size, min(ones, zeros))
        power = min(11, max(0, parameter.bit_length() - 4))
        code = 8 * power + min(7, max(0, (parameter >> power) - 8))
        return (_GAPS if ones < zeros else _ZERO_GAPS) + code
    levels = bit_probabilities()
    return 2 + min(range(BIT_LEVELS), key=lambda level: abs(levels[level] * size - (ones << 16)))


def parameter_of(descriptor: int) -> int:
    """M of a descriptor from 64 on."""
    code = (descriptor - _GAPS) % (_ZERO_GAPS - _GAPS)
    return (8 + code % 8) << (code // 8)


def encode_bits(bits: Bits, keys: Keys, counted: Counted, width: int = 1) -> bytes:
    """The coded bits. `keys`: of every bit; `width` keys in a row are one context; `counted`: of the keys."""
    context_sizes, ones = (part.reshape(-1, width).sum(1) for part in counted)
    described = _describe(context_sizes, ones)
    sizes = group_sizes(context_sizes, described)
    ends = np.cumsum(sizes)
    ordered = gather(bits, keys, sizes, np.repeat(described, width))
    out = [pack_runs(described[context_sizes > 0])]
    for descriptor in range(_GAPS, 256):
        if sizes[descriptor]:
            segment = ordered[ends[descriptor] - sizes[descriptor] : ends[descriptor]]
            positions = np.flatnonzero(segment if descriptor < _ZERO_GAPS else ~segment)
            out += [varint(len(positions)), encode_gaps(positions, parameter_of(descriptor))]
    levels = [int(d) for d in np.flatnonzero(sizes[2:_GAPS]) + 2]
    if levels:
        packed = [np.packbits(ordered[ends[d] - sizes[d] : ends[d]], bitorder="little") for d in levels]
        tables = np.stack([eight_bits_table(d - 2) for d in levels])
        out.append(encode_symbols(np.concatenate(packed), [(i, len(p)) for i, p in enumerate(packed)], tables))
    return b"".join(out)


def decode_bits(reader: Reader, keys: Keys, sizes_of_keys: Sizes, width: int = 1) -> Bits:
    """The inverse of `encode_bits`, to the end of the reader. Raises: `malformed`."""
    context_sizes = sizes_of_keys.reshape(-1, width).sum(1)
    present = context_sizes > 0
    described = np.zeros(len(context_sizes), np.uint8)
    described[present] = read_runs(reader, int(np.count_nonzero(present)))
    sizes = group_sizes(context_sizes, described)
    ends = np.cumsum(sizes)
    ordered = np.zeros(len(keys), np.bool_)
    ordered[ends[1] - sizes[1] : ends[1]] = True
    for descriptor in range(_GAPS, 256):
        size = int(sizes[descriptor])
        if size:
            rare = reader.varint(size)
            positions, used = decode_gaps(reader.rest, rare, size, parameter_of(descriptor))
            reader.skip(used)
            segment = ordered[ends[descriptor] - size : ends[descriptor]]
            segment[positions] = True
            if descriptor >= _ZERO_GAPS:
                np.logical_not(segment, out=segment)
    levels = [int(d) for d in np.flatnonzero(sizes[2:_GAPS]) + 2]
    if levels:
        tables = np.stack([eight_bits_table(d - 2) for d in levels])
        runs = [(i, -(-int(sizes[d]) // 8)) for i, d in enumerate(levels)]
        symbols = decode_symbols(reader.rest, runs, tables)
        reader.skip(len(reader.rest))
        begin = 0
        for (_, length), d in zip(runs, levels, strict=True):
            plain = np.unpackbits(symbols[begin : begin + length], bitorder="little")
            if plain[sizes[d] :].any():
                raise CodecError("malformed", "padding that is not zero")
            ordered[ends[d] - sizes[d] : ends[d]] = plain[: sizes[d]]
            begin += length
    reader.end()
    return scatter(ordered, keys, sizes, np.repeat(described, width))


def pack_runs(values: NDArray[np.uint8]) -> bytes:
    """Bytes in runs, as PackBits: n < 128 and n + 1 bytes as they are, or n >= 128 and the byte that stands n - 126
    times.
    """
    out = bytearray()
    plain = bytearray()

    def flush() -> None:
        for begin in range(0, len(plain), 128):
            piece = plain[begin : begin + 128]
            out.extend((len(piece) - 1, *piece))
        plain.clear()

    for value, same in groupby(values.tolist()):
        length = len(list(same))
        while length >= 3:
            flush()
            run = min(length, 129)
            out.extend((run + 126, value))
            length -= run
        plain.extend([value] * length)
    flush()
    return bytes(out)


def read_runs(reader: Reader, count: int) -> NDArray[np.uint8]:
    """`count` bytes that `pack_runs` wrote. Raises: `malformed`."""
    out = bytearray()
    while len(out) < count:
        control = reader.byte()
        out += reader.take(control + 1) if control < 128 else bytes([reader.byte()]) * (control - 126)
    if len(out) > count:
        raise CodecError("malformed", "a run leads beyond the end")
    return np.frombuffer(bytes(out), np.uint8)
