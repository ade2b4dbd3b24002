"""`append`: of arrays that only grow, what has been added since."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .errors import CodecError
from .interface import ArrayCodec, Context
from .spec import Array, Arrays, Open, Spec


@dataclass(frozen=True, slots=True)
class Append(ArrayCodec):
    """Arrays whose first dimension is open as the rows behind those of `context.reference`, whose array of that name
    they begin with; other arrays pass unchanged. Whoever holds any beginning gets the rest of it.

    Layout: names and dtypes as before; the first dimension counts the rows that are new.
    """

    name: ClassVar[str] = "append"
    lossless: ClassVar[bool] = True

    @property
    def needs_reference(self) -> bool:
        return True

    def encoded_spec(self, spec: Spec) -> Spec:
        return spec

    def encode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `no-reference` (also where the array does not begin with its reference)."""
        return {
            name: _behind(name, array, context) if grows(context.spec, name) else array
            for name, array in arrays.items()
        }

    def decode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `no-reference`, `too-large` (more rows than the spec allows)."""
        decoded: dict[str, Array] = {}
        for name, array in arrays.items():
            if not grows(context.spec, name):
                decoded[name] = array
                continue
            held, most = _reference(name, array, context), context.spec[name].max_shape[0]
            if len(held) + len(array) > most:
                raise CodecError("too-large", f"array {name!r}: {len(held)} rows and {len(array)}; at most {most}")
            decoded[name] = np.concatenate([held, array])
        return decoded


def grows(spec: Spec, name: str) -> bool:
    """Whether `append` sends rows of this array."""
    shape = spec[name].shape
    return bool(shape) and isinstance(shape[0], Open)


def _reference(name: str, array: Array, context: Context) -> Array:
    reference = None if context.reference is None else context.reference.get(name)
    if reference is None or reference.shape[1:] != array.shape[1:] or reference.dtype != array.dtype:
        raise CodecError("no-reference", f"no reference of the same dtype and rows for array {name!r}")
    return reference


def _behind(name: str, array: Array, context: Context) -> Array:
    held = _reference(name, array, context)
    if len(held) > len(array) or held.tobytes() != array[: len(held)].tobytes():
        raise CodecError("no-reference", f"array {name!r} does not begin with its reference")
    return array[len(held) :]
