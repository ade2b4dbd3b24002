"""`random_k`: random elements at positions that both ends draw from the seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .blocks import require_finite
from .counter import BLOCK, uniform_blocks
from .errors import CodecError
from .interface import ArrayCodec, Context
from .shapes import closed_size
from .spec import Array, Arrays, ArraySpec, Open, Spec


@dataclass(frozen=True, slots=True)
class RandomK(ArrayCodec):
    """Each element of every floating array with probability p = `fraction`, times 1 / p; all others decode to zero.

    Unbiased: the mean over seeds is the array; variance (1 / p - 1) x^2. An element is kept where u < floor(p
    2**32), with u from `counter.uniform_bits(context.seed, name, n)`: positions are never sent.

    Layout: `w` (open,) in its own dtype: the kept elements in C order, as they are; the decoder multiplies. Other
    arrays pass unchanged; open dimensions cannot be coded. Cost: 5 ns per element. Source: J. Konečný et al.,
    "Federated Learning: Strategies for Improving Communication Efficiency", arXiv 1610.05492, "subsampling".
    """

    name: ClassVar[str] = "random_k"

    fraction: float = 0.1

    def __post_init__(self) -> None:
        if type(self.fraction) not in (int, float) or not 2.0**-32 <= self.fraction <= 1:
            raise CodecError("bad-chain", f"random_k takes a fraction above 0 and at most 1, not {self.fraction!r}")

    def encoded_spec(self, spec: Spec) -> Spec:
        """Raises: `bad-spec` (a floating array with an open dimension)."""
        return Spec(
            (name, ArraySpec(item.dtype, (Open(closed_size(self.name, name, item)),), item.optional))
            if item.is_floating
            else (name, item)
            for name, item in spec.items()
        )

    def encode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `out-of-range` (not finite, also once multiplied)."""
        encoded: dict[str, Array] = {}
        for name, array in arrays.items():
            if context.spec[name].is_floating:
                array = array.reshape(-1)[self._mask(name, array.size, context.seed)]
                require_finite(name, self._scaled(array))
            encoded[name] = array
        return encoded

    def decode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `does-not-fit`, `out-of-range`."""
        decoded: dict[str, Array] = {}
        for name, array in arrays.items():
            item = context.spec[name]
            if not item.is_floating:
                decoded[name] = array
                continue
            mask = self._mask(name, item.max_elements, context.seed)
            if np.count_nonzero(mask) != len(array):
                raise CodecError("does-not-fit", f"array {name!r} has {len(array)} values, not those of this seed")
            whole = np.zeros(item.max_elements, item.numpy_dtype)
            scaled = self._scaled(array)
            require_finite(name, scaled)
            whole[mask] = scaled
            decoded[name] = whole.reshape(item.max_shape)
        return decoded

    def _mask(self, name: str, size: int, seed: int) -> Array:
        threshold = int(self.fraction * 2.0**32)
        if threshold >= 1 << 32:
            return np.ones(size, np.bool_)
        mask = np.empty(size, np.bool_)
        for index, u in enumerate(uniform_blocks(seed, name, size)):
            mask[index * BLOCK : index * BLOCK + len(u)] = u < threshold
        return mask

    def _scaled(self, array: Array) -> Array:
        # A hostile value may overflow, or be a signalling NaN; `require_finite` refuses both.
        with np.errstate(over="ignore", invalid="ignore"):
            scaled: Array = array * array.dtype.type(1 / self.fraction)
        return scaled
