"""`low_rank`: matrices as two thin factors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from .decomposition import Unfolding, factorise, fold, largest_rank, low_rank_names, matrix_shape, multiply, unfold
from .errors import CodecError
from .interface import ArrayCodec, Context
from .spec import Array, Arrays, ArraySpec, Open, Spec


@dataclass(frozen=True, slots=True)
class LowRank(ArrayCodec):
    """Each matrix W (m, n) as factors of the smallest rank r that keeps `energy` of its squared norm, where that is
    smaller than W itself: r (m + n) < m n. ||W - W_r||^2 <= (1 - energy) ||W||^2, up to the factors' own rounding.

    `max_rank`: a cap, 0 for none. `dense`: names of arrays left as they are; `ends`: so are the first convolution and
    the classifier. `unfolding` of convolutions: `channel` or `spatial`. Arrays that are not floating or have fewer than
    two dimensions pass unchanged.

    Layout: an array `w` that is decomposed becomes `w/u` (r, m) and `w/v` (r, n) in its own dtype, whose rows are the
    singular vectors, each times the root of its singular value: W = u^T v. A row has one scale, as a quantiser per
    channel likes it. Otherwise it stays `w`. Cost: one eigendecomposition of the smaller Gram matrix, m^2 n; decoding
    is one product. The encoder's bits depend on the machine's LAPACK. Source: the truncated singular value
    decomposition (Eckart, Young, Psychometrika 1936).
    """

    energy: float = 0.9
    max_rank: int = 0
    dense: tuple[str, ...] = ()
    ends: bool = True
    unfolding: Unfolding = "channel"

    name: ClassVar[str] = "low_rank"

    def __post_init__(self) -> None:
        if not isinstance(self.energy, int | float) or not 0 < self.energy <= 1:
            raise CodecError("bad-chain", f"low_rank: energy is above 0 and at most 1, not {self.energy!r}")
        if type(self.max_rank) is not int or self.max_rank < 0:
            raise CodecError(
                "bad-chain", f"low_rank: max_rank is a number of ranks, 0 for no cap, not {self.max_rank!r}"
            )
        if self.unfolding not in ("channel", "spatial"):
            raise CodecError("bad-chain", f"low_rank: unfolding is channel or spatial, not {self.unfolding!r}")
        if not isinstance(self.dense, tuple) or not all(isinstance(name, str) for name in self.dense):
            raise CodecError("bad-chain", "low_rank: dense is a list of names")
        if type(self.ends) is not bool:
            raise CodecError("bad-chain", "low_rank: ends is true or false")

    def encoded_spec(self, spec: Spec) -> Spec:
        return Spec(self._encoded(spec))

    def _encoded(self, spec: Spec) -> Iterator[tuple[str, ArraySpec]]:
        chosen = self._chosen(spec)
        for name, item in spec.items():
            if name not in chosen:
                yield name, item
                continue
            rows, columns, most = chosen[name]
            yield name, replace(item, optional=True)
            yield f"{name}/u", ArraySpec(item.dtype, (Open(most), rows), optional=True)
            yield f"{name}/v", ArraySpec(item.dtype, (Open(most), columns), optional=True)

    def _chosen(self, spec: Spec) -> dict[str, tuple[int, int, int]]:
        """Name -> rows, columns, largest rank."""
        found = {}
        for name in low_rank_names(spec, self.dense, ends=self.ends):
            shape = spec[name].shape
            if not all(isinstance(size, int) for size in shape):
                raise CodecError("bad-spec", f"low_rank: array {name!r} has an open dimension; name it in dense")
            rows, columns = matrix_shape(spec[name].max_shape, self.unfolding)
            most = largest_rank((rows, columns))
            if self.max_rank:
                most = min(most, self.max_rank)
            if most:
                found[name] = (rows, columns, most)
        return found

    def encode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `out-of-range` (a value that is not finite)."""
        chosen = self._chosen(context.spec)
        encoded: dict[str, Array] = {}
        for name, array in arrays.items():
            if name not in chosen:
                encoded[name] = array
                continue
            if not np.isfinite(array).all():
                raise CodecError("out-of-range", f"array {name!r} holds a value that is not finite")
            left, right = factorise(unfold(array, self.unfolding), self.energy, self.max_rank or None)
            if left.shape[1] > chosen[name][2]:
                encoded[name] = array
            else:
                encoded[f"{name}/u"] = np.ascontiguousarray(left.T, dtype=array.dtype)
                encoded[f"{name}/v"] = np.ascontiguousarray(right, dtype=array.dtype)
        return encoded

    def decode(self, arrays: Arrays, context: Context) -> Arrays:
        """Raises: `does-not-fit` (one factor without the other, or of another rank, or beside the array itself)."""
        chosen = self._chosen(context.spec)
        decoded: dict[str, Array] = {}
        for name, item in context.spec.items():
            whole = arrays.get(name)
            left, right = (arrays.get(f"{name}/u"), arrays.get(f"{name}/v")) if name in chosen else (None, None)
            if left is None or right is None:
                if left is not None or right is not None:
                    raise CodecError("does-not-fit", f"array {name!r} comes with one factor")
                if whole is not None:
                    decoded[name] = whole
                elif not item.optional:
                    raise CodecError("does-not-fit", f"array {name!r} is missing, and so are its factors")
                continue
            if whole is not None or len(left) != len(right):
                raise CodecError("does-not-fit", f"the factors of array {name!r} do not belong together")
            folded = fold(multiply(left.T, right), item.max_shape, self.unfolding)
            decoded[name] = np.asarray(folded, dtype=item.numpy_dtype)
        return decoded
