"""Bits and small numbers of one width, packed without a gap."""

from __future__ import annotations

import numpy as np

from thinwire.codecs.errors import CodecError
from thinwire.codecs.spec import Array


def unpack_bits(packed: Array, count: int) -> Array:
    """The first `count` bits, as bool. Raises: `malformed` unless zeros fill the last byte."""
    bits: Array = np.unpackbits(packed, bitorder="little").view(np.bool_)
    if len(bits) < count or bits[count:].any():
        raise CodecError("malformed", "packed bits are cut short, or padded with something else than zeros")
    return bits[:count]


def pack_fields(values: Array, width: int) -> bytes:
    """The lowest `width` bits of every value, one behind the other, lowest first; zeros up to a whole byte."""
    bits = (values[:, None] >> np.arange(width, dtype=np.uint8)) & np.uint8(1)
    return np.packbits(bits.reshape(-1), bitorder="little").tobytes()


def unpack_fields(data: memoryview, count: int, width: int) -> Array:
    """The inverse, as u8. Raises: `malformed`."""
    if width > 8:
        raise CodecError("malformed", "a symbol has at most 8 bits")
    bits = unpack_bits(np.frombuffer(data, np.uint8), count * width).view(np.uint8).reshape(count, width)
    values = np.zeros(count, np.uint8)
    for place in range(width):
        values |= bits[:, place] << np.uint8(place)
    return values
