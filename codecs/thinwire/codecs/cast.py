"""`cast`: floating arrays in 16 bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .errors import CodecError
from .interface import ArrayCodec, Context
from .spec import Array, Arrays, ArraySpec, Spec


@dataclass(frozen=True, slots=True)
class Cast(ArrayCodec):
    """Rounds `f32` and `f64` arrays to 16 bits; every other array passes unchanged.

    `to`: `f16` (IEEE binary16: relative error <= 2**-11 for 6.1e-5 <= |x| <= 65504, absolute error
    <= 2**-25 below; larger values are refused) or `bf16` (the upper half of a float32, rounded to
    nearest, ties to even: relative error <= 2**-8 over float32's normal range; travels as `u16`).
    Layout: the same names and shapes, 2 bytes per element.
    """

    name: ClassVar[str] = "cast"

    to: str = "f16"

    def __post_init__(self) -> None:
        if self.to not in ("f16", "bf16"):
            raise CodecError("bad-chain", f"cast goes to f16 or bf16, not {self.to!r}")

    def encoded_spec(self, spec: Spec) -> Spec:
        wire = "f16" if self.to == "f16" else "u16"
        return Spec(
            (name, ArraySpec(wire, item.shape, item.optional) if item.dtype in ("f32", "f64") else item)
            for name, item in spec.items()
        )

    def encode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `out-of-range` (not finite, or beyond what 16 bits hold)."""
        return {
            name: self._narrow(name, array) if context.spec[name].dtype in ("f32", "f64") else array
            for name, array in arrays.items()
        }

    def decode(self, arrays: Arrays, context: Context) -> Arrays:
        return {
            name: self._widen(array, context.spec[name]) if context.spec[name].dtype in ("f32", "f64") else array
            for name, array in arrays.items()
        }

    def _narrow(self, name: str, array: Array) -> Array:
        with np.errstate(over="ignore"):
            single = array.astype(np.float32)
            narrow: Array
            if self.to == "f16":
                narrow = single.astype("<f2")
                finite = bool(np.isfinite(narrow).all())
            else:
                bits = single.view("<u4").astype(np.uint64)
                narrow = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
                finite = bool(np.isfinite(single).all() and ((narrow & 0x7F80) != 0x7F80).all())
        if not finite:
            raise CodecError("out-of-range", f"array {name!r} holds a value that {self.to} cannot")
        return narrow

    def _widen(self, array: Array, item: ArraySpec) -> Array:
        if self.to == "bf16":
            array = (array.astype("<u4") << 16).view("<f4")
        return array.astype(item.numpy_dtype)
