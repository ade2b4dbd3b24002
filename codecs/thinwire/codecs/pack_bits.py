"""`pack_bits`: masks at one bit per element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .errors import CodecError
from .interface import ArrayCodec, Context
from .spec import Array, Arrays, ArraySpec, Spec


@dataclass(frozen=True, slots=True)
class PackBits(ArrayCodec):
    """Every `bool` array as `u8` (ceil(n / 8),): bit k of byte i, counted from the lowest, is element 8 i + k in C
    order.

    The last byte is filled with zeros. Lossless; other arrays pass unchanged. Exactly 1 bit per element; `golomb` and
    `entropy` take less where ones are rare or frequent. Open dimensions cannot be packed.
    """

    name: ClassVar[str] = "pack_bits"
    lossless: ClassVar[bool] = True

    def encoded_spec(self, spec: Spec) -> Spec:
        """Raises: `bad-spec` (a bool array with an open dimension)."""
        return Spec(
            (name, ArraySpec("u8", (-(-closed_size(self.name, name, item) // 8),), item.optional))
            if item.dtype == "bool"
            else (name, item)
            for name, item in spec.items()
        )

    def encode(self, arrays: Arrays, context: Context) -> Arrays:
        return {
            name: np.packbits(array.reshape(-1), bitorder="little") if context.spec[name].dtype == "bool" else array
            for name, array in arrays.items()
        }

    def decode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `malformed` (the last byte is not filled with zeros)."""
        return {
            name: unpack_bits(array, context.spec[name].max_elements).reshape(context.spec[name].max_shape)
            if context.spec[name].dtype == "bool"
            else array
            for name, array in arrays.items()
        }


def closed_size(codec: str, name: str, item: ArraySpec) -> int:
    """The number of elements of an array without open dimensions. Raises: `bad-spec`."""
    if not item.is_closed:
        raise CodecError("bad-spec", f"{codec}: array {name!r} has an open dimension")
    return item.max_elements


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
