"""The model file of a run is the model whose accuracy the run reports, for every method."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.methods.conftest import whole_methods
from tests.methods.fleet import first_model, learners, run_settings, simulated
from thinwire.methods.arrays import Model, same_bits
from thinwire.methods.model_file import model_bytes, read_model
from thinwire.methods.seed_scalars.stored import expand_history, is_history
from thinwire.methods.sparse_masks.masked_model import expand, is_packed

KEPT_BY_CLIENTS = {"fd_alu"}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{method: (method, {}) for method in whole_methods() if method not in KEPT_BY_CLIENTS},
    **{
        f"feddlr, {unfolding}, compact": ("feddlr", {"unfolding": unfolding, "compact-energy": 0.5})
        for unfolding in ("channel", "spatial")
    },
    "feddlr, weights": ("feddlr", {"object": "weights", "unfolding": "spatial", "compact-energy": 0.8}),
    "sparse_masks, mean": ("sparse_masks", {"final": "mean", "epochs": 1}),
}
FLEET = learners(2, examples=120, architecture="digits_convnet")
MODEL = first_model(FLEET)


def in_full(found: Model) -> Model:
    if is_history(found):
        return expand_history(found, MODEL)
    return expand(found) if is_packed(found) else found


@pytest.mark.parametrize("case", CASES)
def test_the_file_has_the_accuracy_that_was_reported(tmp_path: Path, case: str) -> None:
    method, settings = CASES[case]
    run = run_settings(method, settings, cohort=2)
    result = simulated(run, FLEET, MODEL)
    assert result.model is not None
    path = tmp_path / "model.safetensors"
    path.write_bytes(model_bytes(result.model))
    found = read_model(path)
    assert list(found) == list(result.model)
    assert same_bits(found, result.model)
    for name, learner in FLEET.items():
        learner.load(in_full(found))
        measured, reported = learner.evaluate(), result.exchanges[-1].metrics[name]
        assert {key: measured[key] for key in ("loss", "accuracy", "examples")} == {
            key: reported[key] for key in ("loss", "accuracy", "examples")
        }


def test_a_model_from_an_unfinished_run_keeps_its_order(tmp_path: Path) -> None:
    """As the first blocks of a growing model are cut by it."""
    run = run_settings("progfed", rounds=3, cohort=2)
    (tmp_path / "file").write_bytes(model_bytes(MODEL))
    kept = read_model(tmp_path / "file")
    assert list(kept) == list(MODEL) != sorted(MODEL)
    first, again = simulated(run, FLEET, MODEL), simulated(run, FLEET, kept)
    assert same_bits(again.state.arrays, first.state.arrays)
