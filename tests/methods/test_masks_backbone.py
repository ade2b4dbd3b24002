"""Masks on a trained model: the first one keeps it, what is named learns, and the rest stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.methods.fleet import first_model, learners_of, run_settings, simulated, table
from thinwire.codecs import CodecError
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.model import trained_model
from thinwire.methods.arrays import Model, same_bits
from thinwire.methods.definition import define
from thinwire.methods.model_file import model_bytes
from thinwire.methods.sparse_masks.masked_model import expand, needs_start
from thinwire.protocol.reasons import ProblemError

SETTINGS: dict[str, Any] = {
    "backbone": "pretrained", "masks": "1.*", "dense": "2.*", "lambda": 0, "epochs": 2, "dense-lr": 0.05,
}  # fmt: skip


def trained() -> nn.Module:
    """A frozen first layer, one that is masked, and a new head."""
    torch.manual_seed(1)
    net = nn.Sequential(nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 3))
    net.insert(3, nn.Identity())
    net[0].requires_grad_(False)
    return net


@pytest.fixture
def fleet() -> dict[str, Learner]:
    return learners_of(trained, lambda generator: table(generator, 64, 24))


def test_a_mask_of_ones_is_the_backbone(fleet: dict[str, Learner]) -> None:
    model = first_model(fleet)
    run = run_settings("sparse_masks", SETTINGS, cohort=2, rounds=1)
    definition = define("one", run)
    state = definition.first_state(model)
    packed = definition.server.model(state)
    assert packed is not None
    assert needs_start(packed)
    assert same_bits(expand(packed, model), model)
    # What the clients measure first is the model as it came.
    told = simulated(run, fleet, model).exchanges[0].metrics
    for name, learner in fleet.items():
        learner.load(model)
        assert {key: told[name][key] for key in ("loss", "accuracy")} == {
            key: learner.evaluate()[key] for key in ("loss", "accuracy")
        }


def test_masks_and_head_learn_and_nothing_else_moves_or_travels(fleet: dict[str, Learner], tmp_path: Path) -> None:
    model = first_model(fleet)
    assert not any(name.startswith("0.") for name in model)
    result = simulated(run_settings("sparse_masks", SETTINGS, cohort=2, rounds=6), fleet, model)
    assert isinstance(result.model, Model)
    found = expand(result.model, model)
    kept = np.asarray(found["1.weight"] == model["1.weight"])
    assert (kept | (found["1.weight"] == 0)).all(), "a weight of the backbone is itself or nothing"
    assert 0.3 < kept.mean() < 1
    assert not np.array_equal(found["2.weight"], model["2.weight"])
    assert result.exchanges[-1].mean("accuracy") > result.exchanges[0].mean("accuracy") + 0.2
    # Eight bits for each number of the head, a bit at most for each weight that has a mask, and what names cost.
    head, masked = 3 * 17, 16 * 17
    assert all(one.uplink_bytes < 2 * (head + masked / 8 + 250) for one in result.exchanges)
    # The file holds masks and head; with the first model it is whole, on another one it is refused.
    stored, start = tmp_path / "stored", tmp_path / "start"
    stored.write_bytes(model_bytes(result.model))
    assert same_bits(trained_model(stored, lambda: Model(model)), found)
    with pytest.raises(ValueError, match="--start"):
        trained_model(stored)
    other = Model({**model, "1.weight": model["1.weight"] + 1})
    with pytest.raises(ValueError, match="another model"):
        trained_model(stored, lambda: other)
    assert not start.exists()


def test_who_has_loaded_other_weights_is_told_before_it_trains(fleet: dict[str, Learner]) -> None:
    model = {name: array * 2 if name == "1.weight" else array for name, array in first_model(fleet).items()}
    with pytest.raises(CodecError, match="load the same weights"):
        simulated(run_settings("sparse_masks", SETTINGS, cohort=2), fleet, model)


def test_what_never_changes_is_sent_once_and_stays_what_it_was(fleet: dict[str, Learner]) -> None:
    """Beside what is trained as it is: here the masks leave a layer out that the task has not frozen."""
    model = first_model(fleet)
    settings = {**SETTINGS, "masks": "1.bias,1.weight", "dense": "2.bias"}
    result = simulated(run_settings("sparse_masks", settings, cohort=2, rounds=2), fleet, model)
    assert result.model is not None
    assert np.array_equal(expand(result.model, model)["2.weight"], model["2.weight"])
    first, *later = (one.downlink_bytes for one in result.exchanges)
    # 48 numbers of the layer, for two clients; masks have none in the first round.
    assert first > 2 * 4 * 48
    assert all(size < first + 2 * 16 * 17 - 2 * 4 * 48 for size in later)


def test_masks_may_stand_on_some_layers_of_random_weights_too(fleet: dict[str, Learner]) -> None:
    model = first_model(fleet)
    result = simulated(run_settings("sparse_masks", {"masks": "1.weight", "epochs": 1}, cohort=2), fleet, model)
    assert result.model is not None
    found = expand(result.model)
    assert list(found) == list(model)
    assert all(np.array_equal(found[name], model[name]) for name in ("1.bias", "2.weight", "2.bias"))
    assert not np.array_equal(found["1.weight"], model["1.weight"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"masks": "nothing"}, "names no weights"), ({"first-theta": 0.9}, "first-theta is of backbone pretrained")],
)
def test_what_cannot_be_is_refused(fleet: dict[str, Learner], settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ProblemError, match=said):
        define("one", run_settings("sparse_masks", settings)).first_state(first_model(fleet))


def test_a_backbone_that_lambda_would_thin_out_is_warned_of(fleet: dict[str, Learner]) -> None:
    def warned(**settings: Any) -> bool:
        given = {**SETTINGS, **settings}
        return any("lambda=0" in one for one in define("one", run_settings("sparse_masks", given, cohort=9)).warnings)

    assert warned(**{"lambda": 1.0})
    assert not warned()
