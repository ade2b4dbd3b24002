"""Matrices of low rank: how arrays unfold into matrices, how many singular values are kept, the two factors.

LAPACK differs between machines in the last bit: whoever receives factors multiplies them, and never decomposes again.
"""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from .spec import Array, Spec

Unfolding = Literal["channel", "spatial"]
Factors = tuple[NDArray[np.float64], NDArray[np.float64]]

EXACT: Final = 1 - 1e-10
"""The energy that keeps everything but float32 rounding: the numerical rank."""
LARGEST_GRAM: Final = 1024
_IN_CACHE: Final = 1 << 15  # elements of one block of a product


def matrix_shape(shape: tuple[int, ...], unfolding: Unfolding) -> tuple[int, int]:
    """Of the matrix that an array of two or more dimensions unfolds into."""
    if unfolding == "spatial" and len(shape) == 4:
        return shape[1] * shape[2], shape[0] * shape[3]
    rest = 1
    for size in shape[1:]:
        rest *= size
    return shape[0], rest


def unfold(array: Array, unfolding: Unfolding) -> Array:
    """The matrix of an array of two or more dimensions.

    (O, I) as it is. (O, I, k, ...) by `channel` as (O, I k ...): a convolution with few outputs, then one of 1 x 1.
    (O, I, k, l) by `spatial` as (I k, O l): a convolution of k x 1, then one of 1 x l; other shapes by `channel`.
    """
    shape = matrix_shape(array.shape, unfolding)
    if unfolding == "spatial" and array.ndim == 4:
        return array.transpose(1, 2, 0, 3).reshape(shape)
    return array.reshape(shape)


def fold(matrix: Array, shape: tuple[int, ...], unfolding: Unfolding) -> Array:
    """The inverse of `unfold` for an array of this shape."""
    if unfolding == "spatial" and len(shape) == 4:
        outputs, inputs, height, width = shape
        return matrix.reshape(inputs, height, outputs, width).transpose(2, 0, 1, 3)
    return matrix.reshape(shape)


def largest_rank(shape: tuple[int, int]) -> int:
    """The largest r at which two factors are smaller than their product: r (m + n) < m n. 0 where none is."""
    rows, columns = shape
    return max(0, (rows * columns - 1) // (rows + columns)) if rows and columns else 0


def low_rank_names(spec: Spec, dense: tuple[str, ...] = (), *, ends: bool = True) -> list[str]:
    """The arrays that are decomposed: floating, of two or more dimensions, none of `dense`, at least one factorisable.

    `ends`: the first convolution (the first array of three or more dimensions) and the classifier (the last array of
    two or more) stay dense too.
    """
    matrices = [name for name, item in spec.items() if item.is_floating and len(item.shape) >= 2]
    kept = set(dense)
    if ends:
        kept.update(matrices[-1:])
        kept.update([name for name in matrices if len(spec[name].shape) >= 3][:1])
    return [name for name in matrices if name not in kept]


def kept_rank(squares: Array, energy: float) -> int:
    """The smallest r with s_1^2 + ... + s_r^2 >= energy * sum of all s_i^2. `squares`: s_i^2, descending."""
    sums = np.cumsum(squares)
    if not len(sums) or sums[-1] <= 0:
        return 0
    return min(len(sums), 1 + int(np.searchsorted(sums, energy * sums[-1] * (1 - 1e-15))))


def factorise(matrix: Array, energy: float, max_rank: int | None = None) -> Factors:
    """Balanced factors A = U sqrt(S), (m, r), and B = sqrt(S) V^T, (r, n), of the truncated matrix, in float64.

    ||M - A B||^2 <= (1 - energy) ||M||^2 unless `max_rank` cuts it shorter. By the eigenvectors of the smaller Gram
    matrix in float64, which loses singular values under 1e-8 of the largest (in float32: 3e-4); where even that is
    larger than 1024 x 1024, by a randomised range finder (Halko, Martinsson, Tropp, "Finding structure with
    randomness", SIAM Review 2011, arXiv 0909.4061, algorithm 4.4, two iterations, fixed seed), widened until it has
    captured the energy. Of the two signs of singular vectors: in the factor of the smaller side, the element of
    the largest magnitude in every direction is positive.
    """
    wide = matrix.astype(np.float64)
    if matrix.shape[0] > matrix.shape[1]:
        left, right = _factorise_wide(wide.T, energy, max_rank)
        return right.T, left.T
    return _factorise_wide(wide, energy, max_rank)


def _factorise_wide(matrix: NDArray[np.float64], energy: float, max_rank: int | None) -> Factors:
    """For m <= n."""
    basis = _range_of(matrix, energy, max_rank) if len(matrix) > LARGEST_GRAM else None
    inner = matrix if basis is None else basis.T @ matrix
    squares, vectors = np.linalg.eigh(inner @ inner.T)
    squares, vectors = np.maximum(squares[::-1], 0), vectors[:, ::-1]
    captured = float(squares.sum())
    if basis is not None and captured > 0:
        # What the basis has missed counts as lost.
        energy = min(1.0, energy * float(np.square(matrix).sum()) / captured)
    rank = kept_rank(squares, energy)
    if max_rank is not None:
        rank = min(rank, max_rank)
    kept, roots = vectors[:, :rank], np.sqrt(np.sqrt(squares[:rank]))
    left = kept if basis is None else basis @ kept
    signs = np.where(left[np.abs(left).argmax(0), np.arange(rank)] < 0, -1.0, 1.0)
    return left * (signs * roots), (kept.T @ inner) * (signs / np.where(roots > 0, roots, 1))[:, None]


def _range_of(matrix: NDArray[np.float64], energy: float, max_rank: int | None) -> NDArray[np.float64]:
    """Orthonormal columns that capture the energy, or `max_rank` and a few more directions."""
    random = np.random.default_rng(0)
    total = float(np.square(matrix).sum())
    most = len(matrix) if max_rank is None else min(len(matrix), max_rank + 10)
    width = min(most, 64)
    while True:
        basis, _ = np.linalg.qr(matrix @ random.standard_normal((matrix.shape[1], width)))
        for _ in range(2):
            basis, _ = np.linalg.qr(matrix @ (matrix.T @ basis))
        if width >= most or float(np.square(basis.T @ matrix).sum()) >= energy * total:
            return basis
        width = min(most, 2 * width)


def multiply(left: Array, right: Array) -> NDArray[np.float64]:
    """A B for (m, r) and (r, n), in float64, with the same bits on every machine: each BLAS adds in its own order."""
    rows, columns = len(left), right.shape[1]
    product = np.zeros((rows, columns))
    terms = right.astype(np.float64)
    at_once = max(1, _IN_CACHE // max(1, columns))
    for start in range(0, rows, at_once):
        block = left[start : start + at_once].astype(np.float64)
        into, scratch = product[start : start + at_once], np.empty((len(block), columns))
        for index, term in enumerate(terms):
            np.multiply(block[:, index, None], term, out=scratch)
            into += scratch
    return product


def truncated(array: Array, energy: float, unfolding: Unfolding, max_rank: int | None = None) -> Array:
    """The array of the truncated matrix in its own dtype; the array itself where two factors would not be smaller."""
    matrix = unfold(array, unfolding)
    left, right = factorise(matrix, energy, max_rank)
    if left.shape[1] > largest_rank(matrix.shape):
        return array
    return np.asarray(fold(multiply(left, right), array.shape, unfolding), dtype=array.dtype)
