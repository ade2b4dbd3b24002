"""`top_k`: the largest elements, and a mask of where they are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np

from .blocks import require_finite
from .errors import CodecError
from .interface import ArrayCodec, Context
from .spec import Array, Arrays, ArraySpec, Open, Spec

MASK: Final = "mask"


@dataclass(frozen=True, slots=True)
class TopK(ArrayCodec):
    """Of every floating array the k = ceil(fraction * n) elements of largest |x|; all others decode to zero.

    Equal |x|: the earlier in C order. ||x - decoded||^2 <= (1 - k / n) ||x||^2; biased, so use error feedback.

    Layout: `w` (k,) in its own dtype, the values in C order, and `w/mask`, `bool` of the array's shape, with k
    ones: `entropy`, `golomb` or `pack_bits` make H(k / n) to 1 bit per element of it. Other arrays pass unchanged.
    Cost: one partition, 10 ns per element. Source: D. Alistarh et al., "The Convergence of Sparsified Gradient
    Methods", NeurIPS 2018.
    """

    name: ClassVar[str] = "top_k"

    fraction: float = 0.01

    def __post_init__(self) -> None:
        if type(self.fraction) not in (int, float) or not 0 < self.fraction <= 1:
            raise CodecError("bad-chain", f"top_k takes a fraction above 0 and at most 1, not {self.fraction!r}")

    def kept(self, size: int) -> int:
        """k of an array of `size` elements."""
        return min(size, math.ceil(self.fraction * size))

    def encoded_spec(self, spec: Spec) -> Spec:
        """Raises: `bad-spec` (names that collide)."""
        items: list[tuple[str, ArraySpec]] = []
        for name, item in spec.items():
            if not item.is_floating:
                items.append((name, item))
                continue
            most = self.kept(item.max_elements)
            items.append((name, ArraySpec(item.dtype, (most if item.is_closed else Open(most),), item.optional)))
            items.append((f"{name}/{MASK}", ArraySpec("bool", item.shape, item.optional)))
        return Spec(items)

    def encode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `out-of-range` (not finite)."""
        encoded: dict[str, Array] = {}
        for name, array in arrays.items():
            if not context.spec[name].is_floating:
                encoded[name] = array
                continue
            require_finite(name, array)
            flat = array.reshape(-1)
            mask = self._mask(np.abs(flat))
            encoded[name] = flat[mask]
            encoded[f"{name}/{MASK}"] = mask.reshape(array.shape)
        return encoded

    def _mask(self, sizes: Array) -> Array:
        kept = self.kept(len(sizes))
        if kept == len(sizes):
            return np.ones(len(sizes), np.bool_)
        threshold = np.partition(sizes, len(sizes) - kept)[len(sizes) - kept]
        mask: Array = sizes > threshold
        missing = kept - int(np.count_nonzero(mask))
        mask[np.flatnonzero(sizes == threshold)[:missing]] = True
        return mask

    def decode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `does-not-fit` (values and ones are not equally many)."""
        decoded: dict[str, Array] = {}
        for name, item in context.spec.items():
            values, mask = arrays.get(name), arrays.get(f"{name}/{MASK}") if item.is_floating else None
            if not item.is_floating:
                if values is not None:
                    decoded[name] = values
                continue
            if values is None and mask is None:
                continue
            if values is None or mask is None or np.count_nonzero(mask) != len(values):
                raise CodecError("does-not-fit", f"the values and the mask of array {name!r} do not belong together")
            whole = np.zeros(mask.shape, item.numpy_dtype)
            whole[mask] = values
            decoded[name] = whole
        return decoded
