"""Golomb coding of the gaps between the ones of a sparse mask, in whole arrays at a time.

S. W. Golomb, "Run-length encodings", IEEE Transactions on Information Theory 1966; the optimal parameter after R. G.
Gallager and D. C. van Voorhis, "Optimal source codes for geometrically distributed integer alphabets", 1975. A gap g,
the zeros before a one, is g div M in unary and g mod M in truncated binary. Same length as usual, other order: what
has a fixed length comes first, so that nothing is decoded one by one.

Layout, one string of bits, the first bit of a byte its lowest: with b = ceil(log2 M) and u = 2**b - M, (1) of every
gap b - 1 bits of the remainder r, lowest first (b bits where M is a power of two): r if r < u, otherwise (r + u)
div 2; (2) where that is u or more, one bit: (r + u) mod 2; (3) of every gap its quotient as so many ones and a
zero. Zeros up to a whole byte.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from thinwire.codecs.errors import CodecError

Positions = NDArray[np.int64]
Bits = NDArray[np.uint8]


def best_parameter(size: int, ones: int) -> int:
    """The M that suits `ones` ones among `size` bits: near ln 2 / p."""
    return max(1, (45426 * (2 * size - ones) // (2 * max(1, ones)) + 32768) >> 16)


def encode_gaps(positions: NDArray[Any], parameter: int) -> bytes:
    """The gaps before each of these ascending positions."""
    gaps = np.diff(positions.astype(np.int64), prepend=-1) - 1
    width, short = _shape_of(parameter)
    quotients, remainders = np.divmod(gaps, parameter)
    longer = remainders >= short
    heads = np.where(longer, (remainders + short) >> 1, remainders) if short else remainders
    extra = ((remainders + short) & 1)[longer] if short else remainders[:0]
    fields = (heads[:, None] >> np.arange(width)) & 1
    ends = np.cumsum(quotients + 1)
    unary = np.ones(int(ends[-1]) if len(ends) else 0, np.uint8)
    unary[ends - 1] = 0
    bits = np.concatenate([fields.reshape(-1).astype(np.uint8), extra.astype(np.uint8), unary])
    return np.packbits(bits, bitorder="little").tobytes()


def decode_gaps(data: memoryview, ones: int, size: int, parameter: int) -> tuple[Positions, int]:
    """The positions of `ones` ones below `size`, and the number of bytes that were read. Raises: `malformed`."""
    width, short = _shape_of(parameter)
    if not 0 <= ones <= size or ones * (width + 1) > 8 * len(data):
        raise CodecError("malformed", "more gaps than bits")
    longest = ones * (width + 2) + size // parameter
    bits = np.unpackbits(np.frombuffer(data, np.uint8)[: -(-longest // 8)], bitorder="little")
    fields = bits[: ones * width].reshape(ones, width)
    remainders = np.zeros(ones, np.int64)
    for place in range(width):
        remainders |= fields[:, place].astype(np.int64) << place
    at = ones * width
    if short:
        longer = remainders >= short
        extra = bits[at : at + int(np.count_nonzero(longer))]
        if len(extra) != np.count_nonzero(longer):
            raise CodecError("malformed", "a string of gaps is cut short")
        remainders[longer] += remainders[longer] - short + extra
        at += len(extra)
    ends = np.flatnonzero(bits[at:] == 0)[:ones]
    if len(ends) < ones or (len(remainders) and remainders.max() >= parameter):
        raise CodecError("malformed", "a string of gaps is cut short")
    quotients = np.diff(ends, prepend=-1) - 1
    if quotients.sum() > size // parameter:
        raise CodecError("malformed", "gaps lead beyond the end")
    positions = np.cumsum(quotients * parameter + remainders + 1) - 1
    if ones and positions[-1] >= size:
        raise CodecError("malformed", "gaps lead beyond the end")
    at += int(ends[-1]) + 1 if ones else 0
    used = -(-at // 8)
    if bits[at : 8 * used].any():
        raise CodecError("malformed", "padding that is not zero")
    return positions, used


def _shape_of(parameter: int) -> tuple[int, int]:
    """The number of bits of every remainder's first field, and the first value that has one bit more; 0 where none
    has.
    """
    whole = (parameter - 1).bit_length()
    short = (1 << whole) - parameter
    return (whole - 1, short) if short else (whole, 0)
