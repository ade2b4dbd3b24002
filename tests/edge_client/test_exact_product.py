"""Adapters averaged exactly: the mean of the products, for the bytes of the factors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.methods.fleet import first_model, learners_of, run_settings, simulated, table
from thinwire.edge_client.adapters import ExactLoRA, add_lora
from thinwire.edge_client.learner import Learner
from thinwire.methods.simulation import Simulated
from thinwire.methods.tensors import frozen_digests, load_arrays, model_arrays

RANK = 2
SETTINGS = {
    "object": "weights", "energy-down": 1.0, "energy-up": 1.0, "max-rank": RANK, "dense": ["2.weight"],
    "dense-ends": False, "factors": "byte_shuffle, zstd", "lr": 0.1, "epochs": 2,
}  # fmt: skip


def _model(exact: bool = True) -> nn.Module:
    net = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 3))
    return add_lora(net, ["0"], rank=RANK, alpha=4.0, also=["2.*"], exact=exact)


def _learners(exact: bool = True) -> dict[str, Learner]:
    return learners_of(lambda: _model(exact), lambda drawn: table(drawn, columns=24), 3)


def _run(method: str, fleet: dict[str, Learner], settings: dict[str, Any], **of_run: Any) -> Simulated:
    return simulated(run_settings(method, settings, **of_run), fleet, first_model(fleet))


def _adapter(learner: Learner) -> ExactLoRA:
    found = learner.model.get_submodule("0")
    assert isinstance(found, ExactLoRA)
    return found


def test_the_mean_is_that_of_the_products() -> None:
    fleet = _learners()
    done = _run("feddlr", fleet, SETTINGS, rounds=1, evaluate=False)
    assert done.model is not None
    products = [_adapter(learner).delta().detach().double().numpy() for learner in fleet.values()]
    assert np.abs(done.model["0.product"] - np.mean(products, axis=0)).max() < 1e-6
    of_means = np.mean([_adapter(one).lora_B.detach().numpy() for one in fleet.values()], axis=0) @ np.mean(
        [_adapter(one).lora_A.detach().numpy() for one in fleet.values()], axis=0
    )
    assert np.abs(2.0 * of_means - np.mean(products, axis=0)).max() > 1e-3
    assert np.linalg.matrix_rank(done.model["0.product"], tol=1e-5) > RANK


def test_it_costs_the_bytes_of_the_factors() -> None:
    exact = _run("feddlr", _learners(), SETTINGS, evaluate=False)
    plain = _run(
        "fedavg", _learners(exact=False), {"lr": 0.1, "epochs": 2}, evaluate=False, uplink="byte_shuffle, zstd"
    )
    for ours, theirs in zip(exact.exchanges, plain.exchanges, strict=True):
        assert ours.uplink_bytes <= theirs.uplink_bytes * 1.02 + 60


@pytest.mark.parametrize("rank", [0, 1, RANK])
def test_factors_are_those_of_the_product_that_came(rank: int) -> None:
    """Of whatever rank, and whatever was there before; what has no direction yet can still be learnt."""
    torch.manual_seed(0)
    model, drawn = _model(), torch.Generator().manual_seed(1)
    product = torch.randn(32, rank, generator=drawn) @ torch.randn(rank, 24, generator=drawn)
    arrays = {"0.product": product.numpy()}
    load_arrays(model, arrays)
    adapter = model.get_submodule("0")
    assert isinstance(adapter, ExactLoRA)
    first = [one.detach().clone() for one in (adapter.lora_A, adapter.lora_B)]
    assert np.abs(model_arrays(model)["0.product"] - product.numpy()).max() < 1e-5
    assert bool(adapter.lora_A.abs().amax(1).gt(0).all())
    with torch.no_grad():
        adapter.lora_A += 1.0
        adapter.lora_B += 1.0
    load_arrays(model, arrays)
    assert all(torch.equal(one, other) for one, other in zip(first, (adapter.lora_A, adapter.lora_B), strict=True))


def test_training_changes_nothing_of_what_clients_are_compared_by() -> None:
    model = _model()
    before = frozen_digests(model)
    assert set(before) == {"0.base.weight", "0.base.bias"}
    adapter = model.get_submodule("0")
    assert isinstance(adapter, ExactLoRA)
    with torch.no_grad():
        adapter.lora_B += 1.0
    assert frozen_digests(model) == before


def test_a_run_of_it_learns() -> None:
    done = _run("feddlr", _learners(), SETTINGS, rounds=6)
    assert done.exchanges[-1].mean("loss") < 0.7 * done.exchanges[0].mean("loss")
