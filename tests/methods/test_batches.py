"""Laws of batches: every example once, in a seeded order, and none alone where there is another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from tests.methods.fleet import first_model, learners_of, run_settings, simulated, table
from thinwire.edge_client.data import Data
from thinwire.methods.samples import TensorSamples, cuts


@given(count=st.integers(0, 300), size=st.integers(1, 40))
def test_a_pass_covers_all_and_leaves_no_example_alone(count: int, size: int) -> None:
    found = [list(range(count))[chosen] for chosen in cuts(count, size)]
    assert [index for batch in found for index in batch] == list(range(count))
    assert all(len(batch) in (size, size + 1) for batch in found[:-1])
    if size > 1 and count > 1:
        assert all(len(batch) > 1 for batch in found)
    if count % size != 1:
        assert found == [list(range(count))[start : start + size] for start in range(0, count, size)]


def test_a_rest_of_one_joins_in_the_shuffled_order() -> None:
    samples = TensorSamples(torch.arange(9), torch.arange(9))
    plain = torch.cat([batch.inputs for batch in TensorSamples(torch.arange(9)).batches(20, 3)])
    found = [batch.inputs for batch in samples.batches(4, 3)]
    assert [len(batch) for batch in found] == [4, 5]
    assert torch.equal(torch.cat(found), plain)


def normalised() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("fedavg", {}),
        ("feddlr", {}),
        ("feddkd", {"distil-steps": 1}),
        ("progfed", {}),
        ("sparse_masks", {"epochs": 1}),
        ("seed_scalars", {"steps": 3}),
        ("fd_alu", {"classes": 3}),
        ("fd_alu", {"classes": 3, "knowledge": "proxy", "proxy-samples": 17}),
    ],
)
def test_batch_normalisation_meets_no_batch_of_one(method: str, settings: dict[str, Any]) -> None:
    """33 examples at 8, or 16, a batch: one is left over."""

    def data(generator: torch.Generator) -> Data:
        return replace(table(generator, 33), proxy=(torch.ones(40, 6),))

    fleet = learners_of(normalised, data)
    result = simulated(run_settings(method, settings, cohort=2), fleet, first_model(fleet))
    assert len(result.exchanges) >= 3
