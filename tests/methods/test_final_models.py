"""The model file of a run is the model whose accuracy the run reports, for every method: the last one, and each that
its clients have measured on the way.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.methods.conftest import whole_methods
from tests.methods.fleet import client_of, first_model, learners, run_settings, simulated
from thinwire.codecs import Arrays
from thinwire.methods.arrays import Model, same_bits
from thinwire.methods.model_file import model_bytes, read_model
from thinwire.methods.seed_scalars.stored import expand_history, is_history
from thinwire.methods.simulation import Participant, _Simulation
from thinwire.methods.sparse_masks.masked_model import expand, is_packed
from thinwire.methods.values import State, Task

KEPT_BY_CLIENTS = {"fd_alu"}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{method: (method, {}) for method in whole_methods() if method not in KEPT_BY_CLIENTS},
    **{
        f"feddlr, {unfolding}, compact": ("feddlr", {"unfolding": unfolding, "compact-energy": 0.5})
        for unfolding in ("channel", "spatial")
    },
    "feddlr, weights": ("feddlr", {"object": "weights", "unfolding": "spatial", "compact-energy": 0.8}),
    "sparse_masks, mean": ("sparse_masks", {"final": "mean", "epochs": 1}),
    "sparse_masks, trained": ("sparse_masks", {"backbone": "pretrained", "lambda": 0, "dense": "*bias", "epochs": 1}),
    "progfed, growing": ("progfed", {"schedule": [1, 1, 1]}),
    "fedavg, coarse": ("fedavg", {"error-feedback": True}),
}
RUNS: dict[str, dict[str, Any]] = {
    "fedavg, coarse": {"chains": {"*": {"up": "quantise(4), entropy", "down": "delta, quantise(4), entropy"}}},
    "progfed, growing": {"rounds": 3},
}
FIRST_UNMEASURED = {"progfed, growing": 2, "sparse_masks, mean": 1}
"""What has not grown to its end is measured by what there is of it; and mean masks are stored once there are masks."""
FLEET = learners(2, examples=120, architecture="digits_convnet")
MODEL = first_model(FLEET)


def in_full(found: Model) -> Model:
    if is_history(found):
        return expand_history(found, MODEL)
    return expand(found, MODEL) if is_packed(found) else found


class Watched(_Simulation):
    """A run that keeps the models that its clients measure: those that a best model is chosen from, by exchange."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given, lambda _: None)
        self.measured: dict[int, Arrays] = {}

    def exchange(self, task: Task, state: State, answering: Mapping[int, list[str]]) -> tuple[State, list[str]]:
        found = super().exchange(task, state, answering)
        if task.step == 0 and self.server.measures(state):
            parts = {name: part.arrays for name, part in self._before.items()}
            model = self.server.measured(state, parts)
            assert model is not None
            self.measured[len(self.exchanges) - 1] = model
        return found

    def play(self) -> State:
        state, counted = self.definition.first_state(MODEL), list[str]()
        while (task := self.server.task(state)) is not None:
            state, counted = self.exchange(task, state, self.now(self.cohort(task, counted, None)))
        return state


def check(model: Arrays, reported: Mapping[str, Mapping[str, float]], path: Path) -> None:
    """The file of the model has the figures that were reported of it, by client."""
    path.write_bytes(model_bytes(model))
    found = read_model(path)
    assert list(found) == list(model)
    assert same_bits(found, model)
    for name, learner in FLEET.items():
        learner.load(in_full(found))
        measured = learner.evaluate()
        for key in ("loss", "accuracy", "examples"):
            assert measured[key] == reported[name][key], (name, key)


@pytest.mark.parametrize("case", CASES)
def test_the_file_has_the_accuracy_that_was_reported(tmp_path: Path, case: str) -> None:
    method, settings = CASES[case]
    half = client_of(method, settings)
    run = Watched(
        run_settings(method, settings, cohort=2, **RUNS.get(case, {})),
        {name: Participant(half, one) for name, one in FLEET.items()},
    )
    final = run.play()
    task, model = run.server.evaluation(final), run.server.model(final)
    assert task is not None
    assert model is not None
    run.exchange(task, final, run.now(list(FLEET)))
    check(model, run.exchanges[-1].metrics, tmp_path / "last")
    begun = [index for index, one in enumerate(run.exchanges) if one.step == 0]
    assert list(run.measured) == begun[FIRST_UNMEASURED.get(case, 0) :]
    for index, measured in run.measured.items():
        if run.exchanges[index].kind != "evaluate":
            check(measured, run.exchanges[index].metrics, tmp_path / "measured")


def test_a_model_from_an_unfinished_run_keeps_its_order(tmp_path: Path) -> None:
    """As the first blocks of a growing model are cut by it."""
    run = run_settings("progfed", rounds=3, cohort=2)
    (tmp_path / "file").write_bytes(model_bytes(MODEL))
    kept = read_model(tmp_path / "file")
    assert list(kept) == list(MODEL) != sorted(MODEL)
    first, again = simulated(run, FLEET, MODEL), simulated(run, FLEET, kept)
    assert same_bits(again.state.arrays, first.state.arrays)
