"""`golomb`: sparse masks as the gaps between their ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .coding.bits import unpack_bits
from .coding.gaps import best_parameter, decode_gaps, encode_gaps
from .coding.reading import Reader, varint
from .errors import CodecError
from .interface import ArrayCodec, Context
from .shapes import closed_size
from .spec import Array, Arrays, ArraySpec, Open, Spec

_PACKED, _ONES, _ZEROS = range(3)


@dataclass(frozen=True, slots=True)
class Golomb(ArrayCodec):
    """Every `bool` array as `u8` (open,): its rarer bits by their gaps, at any Golomb parameter M (Rice's where M
    is a power of two).

    `parameter`: M; 0 takes the best for each array, near ln 2 / p. Lossless; other arrays pass unchanged. Below p =
    0.04 within 0.7 % of the entropy; never more than 1 bit per element and a byte.

    Layout: one byte: 0 packed bits (`pack_bits`) follow; 1 gaps between ones, 2 between zeros: M (varint), the
    number of these ones or zeros (varint), and the gaps (`gaps`, which names the source). Open dimensions cannot be
    coded.
    """

    name: ClassVar[str] = "golomb"
    lossless: ClassVar[bool] = True

    parameter: int = 0

    def __post_init__(self) -> None:
        if type(self.parameter) is not int or not 0 <= self.parameter <= 1 << 30:
            raise CodecError("bad-chain", f"golomb: parameter is at least 1, or 0 for the best, not {self.parameter!r}")

    def encoded_spec(self, spec: Spec) -> Spec:
        """Raises: `bad-spec` (a bool array with an open dimension)."""
        return Spec(
            (name, ArraySpec("u8", (Open(1 - (-closed_size(self.name, name, item) // 8)),), item.optional))
            if item.dtype == "bool"
            else (name, item)
            for name, item in spec.items()
        )

    def encode(self, arrays: Arrays, context: Context) -> Arrays:
        return {
            name: self._encode(array.reshape(-1)) if context.spec[name].dtype == "bool" else array
            for name, array in arrays.items()
        }

    def _encode(self, bits: Array) -> Array:
        ones = int(np.count_nonzero(bits))
        rare = min(ones, len(bits) - ones)
        parameter = self.parameter or best_parameter(len(bits), rare)
        # The quotients alone take as many bits as there are multiples of M.
        if rare * parameter.bit_length() + len(bits) // parameter < 2 * len(bits):
            positions = np.flatnonzero(bits if ones == rare else ~bits)
            mode = _ONES if ones == rare else _ZEROS
            coded = bytes([mode]) + varint(parameter) + varint(rare) + encode_gaps(positions, parameter)
            if len(coded) <= -(-len(bits) // 8):
                return np.frombuffer(coded, np.uint8)
        return np.concatenate([np.array([_PACKED], np.uint8), np.packbits(bits, bitorder="little")])

    def decode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `malformed`."""
        return {
            name: self._decode(array, context.spec[name]) if context.spec[name].dtype == "bool" else array
            for name, array in arrays.items()
        }

    def _decode(self, array: Array, item: ArraySpec) -> Array:
        reader = Reader(array.data)
        mode, size = reader.byte(), item.max_elements
        if mode == _PACKED:
            bits = unpack_bits(array[1 : 1 - (-size // 8)], size)
            reader.skip(-(-size // 8))
        elif mode in (_ONES, _ZEROS):
            parameter, rare = reader.varint(1 << 37), reader.varint(size)
            if not parameter:
                raise CodecError("malformed", "golomb: M is at least 1")
            positions, used = decode_gaps(reader.rest, rare, size, parameter)
            reader.skip(used)
            bits = np.full(size, mode == _ZEROS)
            bits[positions] = mode == _ONES
        else:
            raise CodecError("malformed", f"golomb knows no mode {mode}")
        reader.end()
        return bits.reshape(item.max_shape)
