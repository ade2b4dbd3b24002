"""When a run is said to learn nothing."""

from __future__ import annotations

import re

import numpy as np
import pytest

from thinwire.methods.progress import Measured, moves_nothing, stands_still


def series(*measured: tuple[float, float | None]) -> list[Measured]:
    return [Measured(index, loss, score) for index, (loss, score) in enumerate(measured)]


@pytest.mark.parametrize(
    ("measured", "said"),
    [
        # README's own example as it was: it had learnt, and lost it again.
        (series((2.31, 0.084), (1.2, 0.677), (1.1, 0.705), (2.30, 0.109)), "after round 2 it was.*0.705.*Lower"),
        (series((2.31, 0.084), (1.2, 0.677), (1.1, 0.705)), None),
        (series((2.31, 0.1), (2.31, 0.1), (2.30, 0.11)), "at first loss 2.31 and accuracy 0.100.*Try other rates"),
        (series((2.31, 0.1), (2.31, 0.1)), None),
        # Slow, but it learns.
        (series((2.31, 0.1), (2.3, 0.11), (2.2, 0.11)), None),
        (series((0.9, None), (0.9, None), (0.95, None)), "no better"),
        (series((0.9, None), (0.9, None), (0.5, None)), None),
        (series((-1.0, None), (-2.0, None), (-3.0, None)), None),
        (series((-1.0, None), (-0.5, None), (-0.9, None)), "no better"),
        ([], None),
    ],
)
def test_a_run_stands_still_where_its_model_is_no_better_than_the_first(
    measured: list[Measured], said: str | None
) -> None:
    found = stands_still(measured)
    assert bool(found) == (said is not None)
    assert re.search(said or "", found), found


def test_an_update_moves_nothing_where_all_weights_stay() -> None:
    still, moved = np.zeros((2, 2), np.float32), np.full((2, 2), 1e-30, np.float32)
    bias = np.ones(2, np.float32)
    assert moves_nothing({"0.weight": still, "0.bias": bias})
    assert not moves_nothing({"0.weight": still, "1.weight": moved, "0.bias": bias})
    # Where nothing but biases is trained, they are what counts; statistics never are.
    assert not moves_nothing({"0.bias": bias})
    assert moves_nothing({"0.bias": np.zeros(2, np.float32), "1.running_mean": bias})
    assert not moves_nothing({})
