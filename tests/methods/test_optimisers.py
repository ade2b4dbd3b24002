"""Laws of the server's optimisers: each agrees with its published formula, computed here without arrays."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from thinwire.codecs import Array
from thinwire.methods.optimisers import Rule, ServerOptimiser

DIRECTIONS = [0.5, -0.25, 1e-4, 0.0, 3.0]


def walked(optimiser: ServerOptimiser, name: str = "w") -> list[float]:
    """w after each step, from w = 1."""
    arrays: dict[str, Array] = {name: np.ones(1)}
    moments: dict[str, Array] = {}
    found = []
    for count, direction in enumerate(DIRECTIONS, 1):
        arrays, moments = optimiser.step(arrays, {name: np.array([direction])}, moments, count=count)
        found.append(float(arrays[name][0]))
    return found


def test_sgd_follows_the_direction() -> None:
    assert walked(ServerOptimiser("sgd", 1.0)) == pytest.approx(1 + np.cumsum(DIRECTIONS), rel=1e-15)


def test_momentum_is_the_geometric_sum() -> None:
    m, w, expected = 0.0, 1.0, []
    for d in DIRECTIONS:
        m = 0.9 * m + d
        w += 0.1 * m
        expected.append(w)
    assert walked(ServerOptimiser("momentum", 0.1)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rule", ["adam", "yogi"])
def test_adaptive_rules_are_those_of_reddi(rule: Rule) -> None:
    m, v, w, expected = 0.0, 1e-6, 1.0, []
    for d in DIRECTIONS:
        m = 0.9 * m + 0.1 * d
        if rule == "adam":
            v = 0.99 * v + 0.01 * d * d
        else:
            v -= 0.01 * d * d * ((v > d * d) - (v < d * d))
        w += 0.02 * m / (math.sqrt(v) + 1e-3)
        expected.append(w)
    assert walked(ServerOptimiser(rule, 0.02)) == pytest.approx(expected, rel=1e-5)


def test_unbiased_adam_is_that_of_torch() -> None:
    w = torch.ones(1, dtype=torch.float64, requires_grad=True)
    theirs = torch.optim.Adam([w], 1e-3, betas=(0.9, 0.999), eps=1e-8)
    expected = []
    for d in DIRECTIONS:
        w.grad = torch.tensor([-d], dtype=torch.float64)
        theirs.step()
        expected.append(float(w.detach()))
    ours = ServerOptimiser("adam", 1e-3, beta2=0.999, epsilon=1e-8, unbiased=True)
    assert walked(ours) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam", "yogi"])
def test_running_statistics_are_averaged_under_every_rule(rule: Rule) -> None:
    expected = 1 + np.cumsum(DIRECTIONS)
    assert walked(ServerOptimiser(rule, 0.3), "norm.running_var") == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("rule", ["sgd", "momentum", "adam", "yogi"])
def test_the_arguments_are_left_as_they_were_and_dtypes_stay(rule: Rule) -> None:
    arrays = {"w": np.ones(3, np.float32)}
    direction = {"w": np.full(3, 0.5)}
    optimiser = ServerOptimiser(rule, 0.1)
    after, moments = optimiser.step(arrays, direction, {}, count=1)
    kept = {name: moment.copy() for name, moment in moments.items()}
    optimiser.step(after, direction, moments, count=2)
    assert all(np.array_equal(moments[name], kept[name]) for name in kept)
    assert after["w"].dtype == np.float32
    assert np.array_equal(arrays["w"], np.ones(3))
    assert all(moment.dtype == np.float32 for moment in moments.values())
