"""`pack_bits`: masks at one bit per element."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .coding.bits import unpack_bits
from .interface import ArrayCodec, Context
from .shapes import closed_size
from .spec import Arrays, ArraySpec, Spec


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
