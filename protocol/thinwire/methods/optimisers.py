"""Optimisers of a server in numpy, element by element in float64, hence with the same bits on every machine.

Block by block, so that beside the new arrays they need no memory that grows with the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from thinwire.codecs import Array, Arrays

from .arrays import headed, is_buffer, moved, under

_BLOCK: Final = 1 << 14
Rule = Literal["sgd", "momentum", "adam", "yogi"]


@dataclass(frozen=True, slots=True)
class ServerOptimiser:
    """One step along a direction d (a mean update, or minus a gradient). Its moments belong to the caller's state.

    `sgd`: w + lr d. `momentum`: m = beta1 m + d, w + lr m (FedAvgM of Hsu, Qi, Brown 2019, arXiv 1909.06335). `adam`,
    `yogi`: w + lr m / (sqrt(v) + epsilon) with m = beta1 m + (1 - beta1) d and v after Algorithm 2 of Reddi et al.,
    "Adaptive Federated Optimization", ICLR 2021, arXiv 2003.00295: v starts at epsilon**2 and nothing is corrected for
    bias. `unbiased`: v starts at 0 and m, v are divided by 1 - beta**count, as in Kingma and Ba, "Adam", ICLR 2015.

    Deviation: buffers, running statistics for instance, always take w + d: a variance must not be extrapolated.
    """

    rule: Rule
    lr: float
    beta1: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-3
    unbiased: bool = False

    def step(
        self, arrays: Arrays, directions: Arrays, moments: Arrays, *, count: int
    ) -> tuple[dict[str, Array], dict[str, Array]]:
        """The arrays after the step, in their own dtypes, and the moments (float32, as `first/NAME`, `second/NAME`).

        `directions`: asked for one array at a time. `moments`: of the step before, {} at first. `count`: of this step,
        from 1.
        """
        first, second = under("first", moments), under("second", moments)
        after: dict[str, Array] = {}
        for name, array in arrays.items():
            direction = np.asarray(directions[name])
            if is_buffer(name):
                after[name] = moved(array, direction.astype(np.float64), name)
                continue
            m, v = first.get(name), second.get(name)
            if self.rule != "sgd":
                first[name] = np.empty(array.shape, np.float32)
            if self.rule in ("adam", "yogi"):
                second[name] = np.empty(array.shape, np.float32)
            stepped = np.empty(array.shape, array.dtype)
            for block in blocks_of(array):
                step = _flat(direction, block)
                if self.rule == "momentum":
                    step = step if m is None else self.beta1 * _flat(m, block) + step
                    first[name].reshape(-1)[block] = step
                elif self.rule != "sgd":
                    step, m_after, v_after = self._adapted(
                        step,
                        np.zeros(step.shape) if m is None else _flat(m, block),
                        np.full(step.shape, self._start) if v is None else _flat(v, block),
                        count,
                    )
                    first[name].reshape(-1)[block] = m_after
                    second[name].reshape(-1)[block] = v_after
                stepped.reshape(-1)[block] = _flat(array, block) + self.lr * step
            after[name] = stepped
        return after, {**headed("first", first), **headed("second", second)}

    @property
    def _start(self) -> float:
        """Of v."""
        return 0.0 if self.unbiased else self.epsilon**2

    def _adapted(self, direction: Array, m: Array, v: Array, count: int) -> tuple[Array, Array, Array]:
        """What a step of adam or yogi adds, before the rate, and both moments."""
        m = self.beta1 * m + (1 - self.beta1) * direction
        square = np.square(direction)
        if self.rule == "adam":
            v = self.beta2 * v + (1 - self.beta2) * square
        else:
            v = v - (1 - self.beta2) * square * np.sign(v - square)
        if not self.unbiased:
            return m / (np.sqrt(v) + self.epsilon), m, v
        # Repeated products: `pow` of two C libraries need not agree in the last bit.
        corrected = m / (1 - math.prod([self.beta1] * count))
        return corrected / (np.sqrt(v / (1 - math.prod([self.beta2] * count))) + self.epsilon), m, v


def blocks_of(array: Array) -> Iterator[slice]:
    """Slices of the flat array: four temporaries of 128 KiB stay in cache, and memory does not grow with the array."""
    for start in range(0, array.size, _BLOCK):
        yield slice(start, start + _BLOCK)


def _flat(array: Array, block: slice) -> Array:
    """Those elements in float64, as a copy."""
    return array.reshape(-1)[block].astype(np.float64)
