"""`delta`: the difference from what the receiver holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .errors import CodecError
from .interface import ArrayCodec, Context
from .spec import Array, Arrays, Spec


@dataclass(frozen=True, slots=True)
class Delta(ArrayCodec):
    """Floating arrays as their difference from `context.reference`; other arrays pass unchanged.

    Computed in the array's own dtype: r + (x - r) equals x up to one rounding (for float32
    2**-24 * max(|x|, |x - r|)), so the codec is not lossless. Layout: names, dtypes and shapes as before.
    """

    name: ClassVar[str] = "delta"

    @property
    def needs_reference(self) -> bool:
        return True

    def encoded_spec(self, spec: Spec) -> Spec:
        return spec

    def encode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `no-reference`."""
        return {
            name: array - _reference(name, array, context) if context.spec[name].is_floating else array
            for name, array in arrays.items()
        }

    def decode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `no-reference`."""
        return {
            name: _reference(name, array, context) + array if context.spec[name].is_floating else array
            for name, array in arrays.items()
        }


def _reference(name: str, array: Array, context: Context) -> Array:
    reference = None if context.reference is None else context.reference.get(name)
    if reference is None or reference.shape != array.shape or reference.dtype != array.dtype:
        raise CodecError("no-reference", f"no reference of the same dtype and shape for array {name!r}")
    return reference
