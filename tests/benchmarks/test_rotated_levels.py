"""The levels beside which our grids are measured are those of the paper's source."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.rotated_levels import GRID, coarse, levels, rotated


def test_the_levels_are_those_of_max() -> None:
    # J. Max, "Quantizing for Minimum Distortion", 1960, table I: 2 and 4 levels.
    assert levels(1) == pytest.approx([-math.sqrt(2 / math.pi), math.sqrt(2 / math.pi)], abs=2e-3)
    assert levels(2) == pytest.approx([-1.510, -0.4528, 0.4528, 1.510], abs=2e-3)


@pytest.mark.parametrize(("bits", "share"), [(1, 0.3634), (2, 0.1175)])
def test_normal_values_lose_what_theory_says(bits: int, share: float) -> None:
    arrays = {"w": np.random.default_rng(0).standard_normal(1 << 14).astype(np.float32)}
    size, lost = rotated(arrays, bits, unbiased=False)
    assert size == pytest.approx(bits, abs=0.01)
    assert lost == pytest.approx(share, rel=0.03)
    assert rotated(arrays, bits, unbiased=True)[1] == pytest.approx(lost / (1 - lost), rel=1e-6)


def test_a_grid_behind_entropy_is_ahead_where_most_values_are_small() -> None:
    random = np.random.default_rng(0)
    arrays = {"w": (random.standard_normal(1 << 14) * random.exponential(1, 1 << 14)).astype(np.float32)}
    size, lost = rotated(arrays, 2, unbiased=False)
    ours = coarse(arrays, GRID.format("deadzone", 1))
    assert ours[0] < size
    assert ours[1] < lost
