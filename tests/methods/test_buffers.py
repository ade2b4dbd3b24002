"""Laws of what a model keeps and does not train: it travels exactly, is averaged, and nothing else touches it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from tests.methods.fleet import client_of, first_model, learners_of, run_settings, simulated, table
from thinwire.codecs import BUFFERS, Chain, CodecError, Spec
from thinwire.edge_client.data import Data
from thinwire.methods.arrays import Model, arrived, buffers_of, same_bits, travelling
from thinwire.methods.definition import define
from thinwire.methods.model_file import model_bytes, read_model
from thinwire.methods.payloads import merge_parts
from thinwire.methods.reducers import Bounds
from thinwire.methods.robust import BoundedNorm
from thinwire.methods.sparse_masks.masked_model import expand, is_packed
from thinwire.methods.sums import WIDEST, ExactSum
from thinwire.methods.tensors import load_arrays
from thinwire.methods.values import Contribution

METHODS = [
    ("fedavg", {}),
    ("fedavg", {"server-optimizer": "adam", "error-feedback": True}),
    ("feddlr", {}),
    ("feddlr", {"object": "weights"}),
    ("feddkd", {"distil-steps": 2}),
    ("feddkd", {"distil-steps": 4, "local-distil-steps": 2}),
    ("progfed", {"schedule": "equal"}),
    ("sparse_masks", {"epochs": 1}),
    ("fd_alu", {"min-count": 1}),
]
each_method = pytest.mark.parametrize(("method", "settings"), METHODS)


def normalised() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
    )


def bounded() -> nn.Module:
    return nn.Sequential(spectral_norm(nn.Linear(6, 8)), nn.ReLU(), spectral_norm(nn.Linear(8, 3)))


class Causal(nn.Sequential):
    """A model that keeps the usual mask of transformers."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 5), nn.Linear(5, 3))
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(6))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = super().forward(inputs @ self.mask.exp())  # type: ignore[operator]
        return outputs


@pytest.mark.parametrize(
    "text",
    ["", "cast(f16), zstd", "quantise(2), entropy", "top_k(0.1), quantise(4)", "random_k(0.1)",
     "delta, quantise(1), entropy", "low_rank(energy=0.5), cast(bf16), zstd", "byte_shuffle(2), zstd",
     "pack_bits, zstd"],
)  # fmt: skip
@pytest.mark.parametrize("alone", [False, True])
def test_no_codec_of_arrays_touches_a_buffer(text: str, alone: bool) -> None:
    """And what it makes of the others is the same with and without buffers beside them."""
    random = np.random.default_rng(0)
    trained = {} if alone else {name: random.standard_normal((8, 6)).astype("f4") for name in ("a", "b", "c")}
    buffers = {
        f"{BUFFERS}n.running_var": np.array([1e-30, 3e20, 0], "f4"),
        f"{BUFFERS}mask": np.full((2, 2), -np.inf),
        "buffers/half": np.array(1 / 3, "f2"),
    }
    chain, both = Chain.parse(text), {**trained, **buffers}
    reference = {name: np.zeros_like(array) for name, array in both.items()}
    payload = chain.encode(both, Spec.of(both), reference=reference, seed=3)
    found = chain.decode(payload, Spec.of(both), reference=reference, seed=3)
    assert same_bits({name: found[name] for name in buffers}, buffers)
    spec = Spec.of(trained)
    expected = chain.decode(
        chain.encode(trained, spec, reference=reference, seed=3), spec, reference=reference, seed=3
    )  # fmt: skip
    assert same_bits({name: found[name] for name in trained}, expected)


wide = st.floats(-1e12, 1e12).map(np.float32)


@given(st.lists(st.tuples(wide, st.integers(1, 1 << 16)), min_size=1, max_size=8), st.randoms())
def test_buffers_of_any_size_are_summed_in_any_order_to_the_same_bits(rows: list[tuple[Any, int]], random: Any) -> None:
    reducer = ExactSum(Bounds(8))
    answers = [
        reducer.check(Contribution(slot, f"c{slot}", weight, {f"{BUFFERS}v": np.array([value], np.float32)}))
        for slot, (value, weight) in enumerate(rows)
    ]

    def mean() -> float:
        totals = [reducer.add(reducer.zero(), answer) for answer in answers]
        while len(totals) > 1:
            totals = [*totals[2:], reducer.merge(totals[1], totals[0])]
        return float(totals[0].mean(f"{BUFFERS}v")[0])

    found = mean()
    random.shuffle(answers)
    assert mean() == found
    exact = math.fsum(float(value) * weight for value, weight in rows) / sum(weight for _, weight in rows)
    assert found == pytest.approx(exact, rel=1e-14, abs=2.0**-58)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2 * WIDEST])
def test_a_buffer_that_is_no_number_is_refused_by_name(value: float) -> None:
    with pytest.raises(CodecError, match=r"buffer 'n.running_var'"):
        ExactSum(Bounds(8)).check(Contribution(0, "c", 1, {f"{BUFFERS}n.running_var": np.array([value], np.float32)}))


def test_a_bounded_norm_is_of_what_is_trained() -> None:
    arrays = {"w": np.array([3.0, 4.0], np.float32), f"{BUFFERS}n.running_var": np.array([100.0], np.float32)}
    reducer = BoundedNorm(ExactSum(Bounds(8)), 1.0, refuse=False)
    found = reducer.check(Contribution(0, "c", 1, arrays)).arrays
    np.testing.assert_allclose(found["w"], [0.6, 0.8], rtol=1e-6)
    assert found[f"{BUFFERS}n.running_var"] == 100.0


COARSE = {"uplink": "quantise(2), entropy", "downlink": "quantise(4), entropy"}


@each_method
@pytest.mark.parametrize("model", [normalised, Causal, bounded])
def test_coarse_chains_leave_buffers_what_they_are(
    model: Callable[[], nn.Module], method: str, settings: dict[str, Any]
) -> None:
    """A variance is not negative, a mask stays one, and what comes of it computes."""
    chains = {} if method in ("sparse_masks", "fd_alu") else COARSE
    fleet = learners_of(model, table)
    first = first_model(fleet)
    if method == "progfed" and model is not normalised:
        return
    result = simulated(run_settings(method, settings, rounds=6, cohort=2, **chains), fleet, first)
    assert math.isfinite(result.exchanges[-1].mean("loss"))
    if result.model is None:
        return
    found = expand(result.model) if is_packed(result.model) else result.model
    assert isinstance(found, Model)
    assert list(found) == list(first)
    assert buffers_of(found) == buffers_of(first) != set()
    for name in buffers_of(found):
        if name.endswith("running_var"):
            assert (found[name] >= 0).all()
            assert (found[name] != first[name]).any()
        if name == "mask":
            assert same_bits({name: found[name]}, {name: first[name]})
        assert not np.isnan(found[name]).any()


@pytest.mark.parametrize("clients", [1, 2, 8])
@pytest.mark.parametrize("settings", [{}, {"server-optimizer": "adam"}])
def test_layers_under_spectral_normalisation_have_norm_one(clients: int, settings: dict[str, Any]) -> None:
    fleet = learners_of(bounded, lambda one: table(one, 80), clients)
    result = simulated(run_settings("fedavg", settings, rounds=6, cohort=clients), fleet, first_model(fleet))
    assert result.model is not None
    model = bounded()
    load_arrays(model, result.model)
    model.eval()
    with torch.no_grad():
        norms = [float(torch.linalg.matrix_norm(model[at].weight, 2)) for at in (0, 2)]
    assert norms == pytest.approx([1, 1], abs=0.02)


def test_statistics_of_a_table_in_its_own_units_travel() -> None:
    def raw(generator: torch.Generator) -> Data:
        found = table(generator, 120)
        scale = torch.tensor([1e1, 5e3, 2e4, 1e9, 1.0, 1.0])
        return Data(*((inputs * scale, targets) for inputs, targets in (found.train, found.evaluation)))

    fleet = learners_of(lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3)), raw)
    result = simulated(run_settings("fedavg", rounds=30, cohort=2), fleet, first_model(fleet))
    assert result.model is not None
    assert result.model["0.running_var"][3] == pytest.approx(1e18, rel=0.5)
    assert result.exchanges[-1].mean("accuracy") > 0.7


def test_classes_are_those_of_the_last_array_that_is_trained() -> None:
    for model in (normalised, bounded, Causal):
        first = first_model(learners_of(model, table))
        server = define("run", run_settings("fd_alu")).server
        task = server.task(server.start(first, 0))
        assert task is not None
        assert task.reply["owned"].max_shape == (3,)


@pytest.mark.parametrize("method", ["fedavg", "feddlr", "feddkd", "sparse_masks"])
def test_a_state_of_before_buffers_were_marked_goes_on(method: str) -> None:
    """It holds running statistics under their own names, and so do the tasks that come of it."""
    fleet = learners_of(normalised, table)
    learner, half, first = fleet["client-00"], client_of(method), first_model(fleet)
    server = define("run", run_settings(method)).server
    state = server.start(first, 0)
    state = replace(state, arrays={name.replace(BUFFERS, ""): array for name, array in state.arrays.items()})
    task = server.task(state)
    assert task is not None
    assert "1.running_var" in task.reply
    learner.prepare(0, reply=task.reply, reference=merge_parts(task.parts))
    answer = half.perform(task, {}, learner).answer
    task.reply.check(answer.arrays)
    after = server.advance(
        state, server.reducer.add(server.reducer.zero(), server.reducer.check(Contribution(0, "c", 1, answer.arrays)))
    )
    model = server.model(after)
    assert model is not None
    found = expand(model) if is_packed(model) else model
    assert buffers_of(found) == buffers_of(first)
    assert (found["1.running_var"] != first["1.running_var"]).any()


class Backbone(nn.Module):
    """Frozen and at rest, under a head that is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.body.requires_grad_(False)
        self.body.eval()
        self.head = nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = self.head(self.body(inputs))
        return outputs


@pytest.mark.parametrize("method", ["fedavg", "feddkd", "sparse_masks", "fd_alu", "seed_scalars"])
def test_a_frozen_backbone_rests(method: str) -> None:
    """Its statistics do not travel, and no training changes them."""
    fleet = learners_of(Backbone, table)
    learner = fleet["client-00"]
    assert list(learner.spec) == ["head.weight", "head.bias"]
    before = {name: buffer.clone() for name, buffer in learner.model.named_buffers()}
    settings = {"min-count": 1} if method == "fd_alu" else {}
    simulated(run_settings(method, settings, cohort=2), fleet, first_model(fleet))
    learner.model.train()
    assert learner.model.head.training
    assert not any(module.training for module in learner.model.body.modules())  # type: ignore[union-attr]
    assert all(torch.equal(buffer, before[name]) for name, buffer in learner.model.named_buffers())


def test_what_is_trained_does_not_rest_however_it_came() -> None:
    learner = learners_of(lambda: normalised().eval(), table)["client-00"]
    learner.model.train()
    assert all(module.training for module in learner.model.modules())


def test_a_model_file_marks_buffers_and_a_model_without_any_is_written_as_before(tmp_path: Path) -> None:
    first = first_model(learners_of(Causal, table))
    path = tmp_path / "file"
    path.write_bytes(model_bytes(first))
    found = read_model(path)
    assert same_bits(found, first)
    assert found.buffers == {"mask"}
    assert same_bits(arrived(travelling(first)), first)
    path.write_bytes(model_bytes({**first, "0.bias": np.full(6, np.inf, np.float32)}))
    with pytest.raises(Exception, match="not finite"):
        read_model(path)
    path.write_bytes(model_bytes(Model({**first, "mask": np.full((6, 6), np.nan, np.float32)}, ["mask"])))
    with pytest.raises(Exception, match="not finite"):
        read_model(path)
    plain = {name: array for name, array in first.items() if name != "mask"}
    assert b"buffers" not in model_bytes(plain)
    assert travelling(plain) == plain
