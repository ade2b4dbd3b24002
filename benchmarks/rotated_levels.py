"""Whether levels of a rotated array are worth their bits: `python -m benchmarks.rotated_levels`.

EDEN (S. Vargaftik et al., "EDEN: Communication-Efficient and Robust Distributed Mean Estimation for Federated
Learning", ICML 2022) rotates an array, rounds to the Lloyd-Max levels of a normal distribution, 1 to 4 bits a number,
and sends one scale. Beside it our grids of coarse steps behind `entropy(adaptive)`, on an update of a trained network:
bits a number, and the square error as a share of the array's square, with the scale of the least error and with the
unbiased one. Only sizes and errors: nothing is trained on what was decoded.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.tables import Table
from benchmarks.trained import trained_arrays
from thinwire.codecs import Array, Arrays, Chain, Spec
from thinwire.codecs.hadamard import rotate
from thinwire.operator.console import console

SEED: Final = 7
SPREADS: Final = (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)
GRID: Final = "quantise(8, per=bundle, rounding={}, spread={:g}), entropy(adaptive)"
_SCALE_BITS: Final = 32


@cache
def levels(bits: int) -> NDArray[np.float64]:
    """The 2**bits levels of least square error for a normal distribution (S. Lloyd 1957, J. Max 1960): by turns each
    level the mean of its cell, each cell what lies nearest.
    """
    at = np.linspace(-7, 7, 7_001)
    weight = np.exp(-at * at / 2)
    found = np.linspace(-2, 2, 1 << bits)
    for _ in range(300):
        cell = np.searchsorted((found[1:] + found[:-1]) / 2, at)
        found = np.bincount(cell, weight * at) / np.bincount(cell, weight)
    return found


def rotated(arrays: Arrays, bits: int, *, unbiased: bool) -> tuple[float, float]:
    """Bits a number and relative square error of EDEN."""
    chosen, square, lost, size = levels(bits), 0.0, 0.0, 0
    for name, array in arrays.items():
        turned = rotate(array.reshape(-1).astype(np.float32), SEED, name).astype(np.float64)
        spread = np.sqrt(np.square(turned).mean())
        near = chosen[np.searchsorted((chosen[1:] + chosen[:-1]) / 2, turned / spread)]
        scale = turned @ turned / (near @ turned) if unbiased else near @ turned / (near @ near)
        square += float(turned @ turned)
        lost += float(np.square(turned - scale * near).sum())
        size += bits * len(turned) + _SCALE_BITS
    return size / values(arrays), lost / square


def coarse(arrays: Arrays, chain: str) -> tuple[float, float]:
    """The same of one of our chains."""
    made, spec = Chain.parse(chain), Spec.of(arrays)
    payload = made.encode(arrays, spec, seed=SEED)
    decoded = made.decode(payload, spec, seed=SEED)
    return 8 * len(payload) / values(arrays), _square(arrays, decoded) / _square(arrays)


def values(arrays: Arrays) -> int:
    return sum(array.size for array in arrays.values())


def _square(arrays: Arrays, less: Arrays | None = None) -> float:
    def one(name: str, array: Array) -> Array:
        return np.square(array.astype(np.float64) - (0 if less is None else less[name]))

    return sum(float(one(name, array).sum()) for name, array in arrays.items())


def table(title: str, arrays: Arrays) -> Table:
    """A row for each code, the fewest bits first."""
    rows: list[tuple[float, float, str]] = []
    for bits in (1, 2, 3, 4):
        for unbiased in (False, True):
            words = f"rotated, {bits} bit{'s' * (bits > 1)}, {'unbiased' if unbiased else 'least error'}"
            rows.append((*rotated(arrays, bits, unbiased=unbiased), words))
    for rounding in ("deadzone", "stochastic"):
        for spread in SPREADS:
            rows.append((*coarse(arrays, GRID.format(rounding, spread)), f"{rounding}, spread {spread:g}"))
    cells = [(words, f"{bits:.3f}", f"{error:.4f}") for bits, error, words in sorted(rows)]
    return Table(title, ("code", "bits/value", "square error"), cells)


def main() -> None:
    """Prints."""
    torch.set_num_threads(1)
    arrays = trained_arrays()
    for name in ("update", "factors"):
        table(name, arrays[name]).show(console())


if __name__ == "__main__":
    main()
