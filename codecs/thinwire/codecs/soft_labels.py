"""`soft_labels`: rows of class probabilities in few bits, that still add up to one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .blocks import require_finite
from .errors import CodecError
from .interface import ArrayCodec, Context
from .spec import Array, Arrays, ArraySpec, Spec

_BLOCK = 4096  # rows at once
_UNIT = 1 << 24


@dataclass(frozen=True, slots=True)
class SoftLabels(ArrayCodec):
    """Every row (the last dimension, C classes) of every floating array as m = 2**bits - 1 units shared out among
    its classes.

    A row is not negative, not all zero, and need not be normalised. y = rint(2**24 x / sum x) in integers of total
    Y; class c gets floor(m y_c / Y) units and what is left goes, one each, to the largest remainders of m y_c, the
    lowest class first. Decoded, a row is not negative, adds up to one (to float rounding), and is within 1 / m of x
    / sum x. With 1 bit it is the arg-max.

    Layout: `w` (..., C - 1), `u8` (`u16` above 8 bits): the units of all classes but the last, which has the rest.
    With 1 bit `w` (...,): the index of the arg-max, `u8` up to 256 classes, else `u16`: ceil(log2 C) bits each
    behind `entropy`. Arrays of integers, and those without dimensions, pass unchanged. Cost: 30 ns per value.
    Source: F. Sattler, A. Marban, R. Rischke, W. Samek, "CFD: Communication-Efficient Federated Distillation via
    Soft-Label Quantization and Delta Coding", IEEE TNSE 2022, arXiv 2012.00632, section on constrained
    quantisation.
    """

    name: ClassVar[str] = "soft_labels"

    bits: int = 8

    def __post_init__(self) -> None:
        if type(self.bits) is not int or not 1 <= self.bits <= 16:
            raise CodecError("bad-chain", f"soft_labels takes 1 to 16 bits, not {self.bits!r}")

    @property
    def units(self) -> int:
        """m: how many units a row shares out."""
        return (1 << self.bits) - 1

    def encoded_spec(self, spec: Spec) -> Spec:
        """Raises: `bad-spec` (an open number of classes, or none, or more than 65536)."""
        return Spec((name, self._encoded(name, item) if _holds(item) else item) for name, item in spec.items())

    def _encoded(self, name: str, item: ArraySpec) -> ArraySpec:
        classes = item.shape[-1]
        if not isinstance(classes, int) or not 1 <= classes <= 1 << 16:
            raise CodecError(
                "bad-spec", f"soft_labels: array {name!r} needs a known number of classes as its last dimension"
            )
        if self.bits == 1:
            return replace(item, dtype="u8" if classes <= 256 else "u16", shape=item.shape[:-1])
        return replace(item, dtype="u8" if self.bits <= 8 else "u16", shape=(*item.shape[:-1], classes - 1))

    def encode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `out-of-range` (not finite, negative, or a row of zeros)."""
        encoded = self.encoded_spec(context.spec)
        return {
            name: self._quantised(name, array, encoded[name].numpy_dtype) if _holds(context.spec[name]) else array
            for name, array in arrays.items()
        }

    def _quantised(self, name: str, array: Array, dtype: np.dtype[np.uint8]) -> Array:
        require_finite(name, array)
        classes = array.shape[-1]
        rows = array.reshape(-1, classes)
        codes = np.empty(len(rows) if self.bits == 1 else (len(rows), classes - 1), dtype)
        for begin in range(0, len(rows), _BLOCK):
            block = rows[begin : begin + _BLOCK].astype(np.float64)
            sums = block.sum(1, keepdims=True)
            if (block < 0).any() or not (np.isfinite(sums) & (sums > 0)).all():
                raise CodecError("out-of-range", f"array {name!r} has a row that is no distribution")
            units = _shared_out(np.rint(block * (_UNIT / sums)).astype(np.int64), self.units)
            codes[begin : begin + _BLOCK] = units.argmax(1) if self.bits == 1 else units[:, :-1]
        return codes.reshape(array.shape[:-1] if self.bits == 1 else (*array.shape[:-1], classes - 1))

    def decode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `malformed` (a row with more units than there are, a class that does not exist)."""
        return {
            name: self._probabilities(name, array, context.spec[name]) if _holds(context.spec[name]) else array
            for name, array in arrays.items()
        }

    def _probabilities(self, name: str, codes: Array, item: ArraySpec) -> Array:
        classes = item.max_shape[-1]
        if self.bits == 1:
            if codes.size and int(codes.max()) >= classes:
                raise CodecError("malformed", f"array {name!r} names class {int(codes.max())} of {classes}")
            rows = np.zeros((codes.size, classes), item.numpy_dtype)
            rows[np.arange(codes.size), codes.reshape(-1)] = 1
            return rows.reshape(*codes.shape, classes)
        units = (
            codes.reshape(-1, classes - 1) if classes > 1 else np.zeros((int(np.prod(codes.shape[:-1])), 0), np.int64)
        )
        rows = np.empty((len(units), classes), item.numpy_dtype)
        for begin in range(0, len(units), _BLOCK):
            block = units[begin : begin + _BLOCK].astype(np.int64)
            rest = self.units - block.sum(1)
            if (rest < 0).any():
                raise CodecError("malformed", f"array {name!r} has a row of more than {self.units} units")
            rows[begin : begin + _BLOCK] = np.column_stack([block, rest]) / self.units
        return rows.reshape(*codes.shape[:-1], classes)


def _holds(item: ArraySpec) -> bool:
    return item.is_floating and len(item.shape) > 0


def _shared_out(weights: NDArray[np.int64], units: int) -> NDArray[np.int64]:
    """Rows of integers that add up to `units`, in proportion to the weights: the method of the largest remainder."""
    total = weights.sum(1, keepdims=True)
    shares, remainders = np.divmod(weights * units, total)
    left = units - shares.sum(1)
    order = np.argsort(-remainders, axis=1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(weights.shape[1])[None, :], axis=1)
    shares += ranks < left[:, None]
    return shares
