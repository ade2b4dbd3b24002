"""Laws of the server half of sparse random networks: counting."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from tests.methods.fleet import first_model, learners, run_settings
from thinwire.codecs import Array, Arrays, CodecError
from thinwire.methods.checkpoint import pack_state
from thinwire.methods.definition import define
from thinwire.methods.sparse_masks import SparseMasksSettings
from thinwire.methods.sparse_masks.frozen import theta_of_counts
from thinwire.methods.sparse_masks.training import drawn
from thinwire.methods.values import Contribution, State

MODEL = first_model(learners(1, hidden=(16,)))


def answered(server: Any, state: State, masks: list[dict[str, Array]], examples: list[int] | None = None) -> State:
    total = server.reducer.zero()
    for slot, mask in enumerate(masks):
        weight = 5 if examples is None else examples[slot]
        total = server.reducer.add(total, Contribution(slot, f"c{slot}", weight, mask))
    return server.advance(state, total)


def random_masks(count: int, seed: int = 0) -> list[dict[str, Array]]:
    random = np.random.default_rng(seed)
    return [{name: random.random(a.shape) < 0.3 for name, a in MODEL.items()} for _ in range(count)]


def test_without_regulariser_the_mean_of_masks_is_the_next_probability() -> None:
    """FedPM, exactly: theta = sum of m_k / K, whatever the clients' numbers of examples."""
    server = define("run", run_settings("sparse_masks", {"lambda": 0})).server
    masks = random_masks(3)
    state = answered(server, server.start(MODEL, 0), masks, [1, 50, 7])
    task = server.task(state)
    assert task is not None
    for name in MODEL:
        theta = theta_of_counts(task.parts["counts"][name], int(task.options["masks"]))
        assert (theta == sum(mask[name].astype(np.float64) for mask in masks) / 3).all()
        assert task.parts["counts"][name].dtype == np.uint8


def test_examples_weigh_within_a_level() -> None:
    server = define("run", run_settings("sparse_masks", {"weighting": "examples"})).server
    masks = random_masks(3)
    state = answered(server, server.start(MODEL, 0), masks, [1, 50, 7])
    task = server.task(state)
    assert task is not None
    for name in MODEL:
        exact = sum(n * mask[name].astype(np.float64) for n, mask in zip([1, 50, 7], masks, strict=True)) / 58
        assert np.abs(theta_of_counts(task.parts["counts"][name], 0) - exact).max() < 0.013


def test_beta_counts_over_the_rounds_since_its_reset() -> None:
    def states(settings: Mapping[str, Any]) -> list[State]:
        server = define("run", run_settings("sparse_masks", settings, rounds=6)).server
        found = [server.start(MODEL, 0)]
        for round_ in range(5):
            found.append(answered(server, found[-1], random_masks(3, round_)))
        return found

    mean, once, thrice = (
        states(given) for given in ({}, {"aggregation": "beta"}, {"aggregation": "beta", "reset_every": 3})
    )
    assert [pack_state(a) for a in mean] == [pack_state(b) for b in once]
    assert [int(state.arrays["masks"]) for state in thrice] == [0, 3, 6, 9, 3, 6]
    name = next(iter(MODEL))
    summed = sum(mask[name].astype(int) for round_ in range(3) for mask in random_masks(3, round_))
    # alpha = beta = 1 at first: theta = (alpha - 1) / (alpha + beta - 2) = sum of m / their number.
    assert (thrice[3].arrays[f"counts/{name}"] == summed).all()


@pytest.mark.parametrize(
    ("rounds", "settings", "warned"),
    [
        (9, {}, False),
        (10, {}, True),
        (10, {"revive": 0.01}, False),
        # Three rounds with K, 2 K and 3 K masks lose as much as 1 + 1/4 + 1/9 rounds with K.
        (19, {"aggregation": "beta", "reset_every": 3}, False),
        (20, {"aggregation": "beta", "reset_every": 3}, True),
    ],
)
def test_a_run_that_will_drift_is_told_so(rounds: int, settings: Mapping[str, Any], warned: bool) -> None:
    said = define("run", run_settings("sparse_masks", settings, rounds=rounds)).warnings
    assert len(said) == warned
    assert all("3 x cohort" in sentence for sentence in said)


@pytest.mark.parametrize(
    "settings",
    [{"reset_every": 2}, {"aggregation": "beta", "weighting": "examples"}, {"lambda": -1}, {"revive": 0.5}],
)
def test_settings_that_contradict_each_other_are_refused(settings: Mapping[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SparseMasksSettings.model_validate(settings)


@pytest.mark.parametrize(
    ("arrays", "settings", "cohort"),
    [
        ({"scale": np.zeros(3, np.float32)}, {}, 3),
        ({"w": np.zeros((2, 2), np.float64)}, {}, 3),
        (MODEL, {"aggregation": "beta", "reset_every": 9_000}, 8),
    ],
)
def test_models_that_cannot_be_masked_are_refused(arrays: Arrays, settings: Mapping[str, Any], cohort: int) -> None:
    with pytest.raises(CodecError, match="bad-spec"):
        define("run", run_settings("sparse_masks", settings, cohort=cohort)).server.start(arrays, 0)


@pytest.mark.parametrize("theta", [0.0, 2.0**-18, 0.1, 0.5, 1 - 2.0**-10, 1.0])
def test_a_batch_draws_zeros_and_ones_with_probability_theta(theta: float) -> None:
    count = 1 << 20
    found = drawn(torch.full((count,), theta), np.random.SFC64(3)).numpy()
    assert set(np.unique(found)) <= {0.0, 1.0}
    near = round(theta * 65536) / 65536
    assert abs(found.mean() - near) <= 4 * math.sqrt(near * (1 - near) / count)
