"""Optimisers of a server in numpy, element by element in float64, hence with the same bits on every machine."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from thinwire.codecs import Array, Arrays

from .local_training import headed, is_statistic, under

Rule = Literal["sgd", "momentum", "adam", "yogi"]


@dataclass(frozen=True, slots=True)
class ServerOptimiser:
    """One step along a direction d (a mean update, or minus a gradient). Its moments belong to the caller's state.

    `sgd`: w + lr d. `momentum`: m = beta1 m + d, w + lr m (FedAvgM of Hsu, Qi, Brown 2019, arXiv 1909.06335). `adam`,
    `yogi`: w + lr m / (sqrt(v) + epsilon) with m = beta1 m + (1 - beta1) d and v after Algorithm 2 of Reddi et al.,
    "Adaptive Federated Optimization", ICLR 2021, arXiv 2003.00295: v starts at epsilon**2 and nothing is corrected for
    bias. `unbiased`: v starts at 0 and m, v are divided by 1 - beta**count, as in Kingma and Ba, "Adam", ICLR 2015.

    Deviation: running statistics of normalisation layers always take w + d, since a variance must not be extrapolated.
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

        `moments`: of the step before, {} at first. `count`: of this step, from 1.
        """
        first, second = under("first", moments), under("second", moments)
        after: dict[str, Array] = {}
        for name, array in arrays.items():
            direction = directions[name].astype(np.float64)
            if is_statistic(name):
                after[name] = (array + direction).astype(array.dtype)
                continue
            moved = self._moved(name, direction, first, second, count)
            after[name] = (array.astype(np.float64) + self.lr * moved).astype(array.dtype)
        return after, {**headed("first", first), **headed("second", second)}

    def _moved(
        self, name: str, direction: Array, first: dict[str, Array], second: dict[str, Array], count: int
    ) -> Array:
        """What the step adds, before the rate; the moments are replaced."""
        if self.rule == "sgd":
            return direction
        m = first[name].astype(np.float64) if name in first else np.zeros(direction.shape)
        if self.rule == "momentum":
            m = self.beta1 * m + direction
            first[name] = m.astype(np.float32)
            return m
        start = 0.0 if self.unbiased else self.epsilon**2
        v = second[name].astype(np.float64) if name in second else np.full(direction.shape, start)
        m = self.beta1 * m + (1 - self.beta1) * direction
        square = np.square(direction)
        if self.rule == "adam":
            v = self.beta2 * v + (1 - self.beta2) * square
        else:
            v = v - (1 - self.beta2) * square * np.sign(v - square)
        first[name], second[name] = m.astype(np.float32), v.astype(np.float32)
        if self.unbiased:
            # Repeated products: `pow` of two C libraries need not agree in the last bit.
            m = m / (1 - math.prod([self.beta1] * count))
            v = v / (1 - math.prod([self.beta2] * count))
        return m / (np.sqrt(v) + self.epsilon)
