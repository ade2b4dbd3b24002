"""Laws of what sparse random networks send: masks up, counts down, seed and mask as the model."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from tests.methods.fleet import first_model, learners, run_settings, simulated
from thinwire.codecs import Array, Arrays, ArraySpec, Chain, CodecError, Spec
from thinwire.methods.arrays import under
from thinwire.methods.checkpoint import pack_state
from thinwire.methods.sparse_masks.frozen import draw, frozen_weights, theta_of_counts
from thinwire.methods.sparse_masks.masked_model import HEADER, MASK, expand, is_packed, pack_model

FLEET = learners(3, hidden=(48,))
MODEL = first_model(FLEET)
SPEC = Spec.of(MODEL)
PARAMETERS = sum(array.size for array in MODEL.values())
QUICK = {"epochs": 1}


def entropy(ones: Array, sizes: Array) -> float:
    """Bits."""
    found = 0.0
    for one, size in zip(np.ravel(ones), np.ravel(sizes), strict=True):
        for count in (one, size - one):
            if count:
                found -= count * math.log2(count / size)
    return found


def test_the_first_broadcast_is_a_seed_and_later_ones_are_counts() -> None:
    result = simulated(run_settings("sparse_masks", QUICK, rounds=3), FLEET, MODEL)
    assert [e.downlink_bytes == 0 for e in result.exchanges] == [True, False, False, False]
    # One bit per parameter at the very most, and a header.
    assert all(e.uplink_bytes <= 3 * (PARAMETERS / 8 + 16) for e in result.exchanges)


def test_masks_survive_coding_and_cost_their_entropy() -> None:
    reply = Spec((name, ArraySpec("bool", array.shape)) for name, array in MODEL.items())
    seeded = Chain.parse("entropy(condition=counts, sampling=True)")
    counted, plain = Chain.parse("entropy(condition=counts)"), Chain.parse("entropy")
    random = np.random.default_rng(4)
    counts = {
        name: random.binomial(10, random.choice([0.02, 0.4, 0.98], a.shape)).astype("u1") for name, a in MODEL.items()
    }
    # What local training does: probabilities have moved a little.
    moved = {name: np.clip(array / 10 + random.normal(0, 0.03, array.shape), 0, 1) for name, array in counts.items()}
    masks = {name: draw(theta, 77, name) for name, theta in moved.items()}
    sizes = {}
    for key, chain in {"seeded": seeded, "counted": counted, "plain": plain}.items():
        payload = chain.encode(masks, reply, reference=counts, seed=77)
        decoded = chain.decode(payload, reply, reference=counts, seed=77)
        assert all((decoded[name] == masks[name]).all() for name in masks)
        sizes[key] = len(payload)
    per_array = entropy(np.array([m.sum() for m in masks.values()]), np.array([m.size for m in masks.values()]))
    assert sizes["plain"] <= 1.006 * per_array / 8 + 32
    flat, levels = (np.concatenate([a.reshape(-1) for a in one.values()]) for one in (masks, counts))
    by_level = entropy(np.bincount(levels, flat, minlength=11).astype(int), np.bincount(levels, minlength=11))
    assert sizes["counted"] <= 1.006 * by_level / 8 + 32 + 11
    assert sizes["seeded"] < sizes["counted"] < sizes["plain"]


def test_seeded_sampling_is_free_and_cheaper() -> None:
    """The same masks and states, bit for bit, under every uplink chain; only the bytes differ."""
    up = {"seeded": None, "counted": "entropy(condition=counts)", "plain": "entropy", "packed": "pack_bits"}
    results = {
        key: simulated(run_settings("sparse_masks", QUICK, rounds=4, uplink=chain), FLEET, MODEL)
        for key, chain in up.items()
    }
    assert len({pack_state(result.state) for result in results.values()}) == 1
    last = {key: result.exchanges[3].uplink_bytes for key, result in results.items()}
    assert last["seeded"] < last["counted"] < last["plain"] <= last["packed"] + 16


def test_counts_given_those_before_cost_less() -> None:
    results = [
        simulated(run_settings("sparse_masks", QUICK, rounds=5, downlink=chain), FLEET, MODEL)
        for chain in (None, "entropy")
    ]
    assert pack_state(results[0].state) == pack_state(results[1].state)
    conditional, alone = (result.exchanges[4].downlink_bytes for result in results)
    assert conditional < 0.9 * alone


def test_the_final_model_is_a_seed_and_a_mask() -> None:
    run = run_settings("sparse_masks", QUICK, rounds=2, seed=11)
    result = simulated(run, FLEET, MODEL)
    assert result.model is not None
    assert is_packed(result.model)
    assert set(result.model) == {HEADER, MASK}
    assert result.model[MASK].nbytes <= PARAMETERS / 8 + 32
    found = expand(result.model)
    assert list(found) == list(MODEL)
    frozen = frozen_weights(SPEC, 11, "signed")
    counts, masks = under("counts", result.state.arrays), int(result.state.arrays["masks"])
    for name, array in found.items():
        assert array.dtype == np.float32
        assert (array == frozen[name] * (counts[name] / masks > 0.5)).all()
    # What was measured last is this model.
    learner = FLEET["client-02"]
    learner.prepare(0)
    learner.load(found)
    assert result.exchanges[-1].metrics["client-02"]["accuracy"] == learner.evaluate()["accuracy"]


@pytest.mark.parametrize(
    "settings",
    [{}, {"weighting": "examples"}, {"aggregation": "beta", "reset_every": 100}],
    ids=["u8", "levels", "u16"],
)
def test_the_final_model_may_be_mean_weights(settings: Mapping[str, Any]) -> None:
    run = run_settings("sparse_masks", {**QUICK, **settings, "final": "mean"}, rounds=2, seed=11)
    result = simulated(run, FLEET, MODEL)
    assert result.model is not None
    found = expand(result.model)
    counts, masks = under("counts", result.state.arrays), int(result.state.arrays["masks"])
    frozen = frozen_weights(SPEC, 11, "signed")
    for name, array in found.items():
        theta = theta_of_counts(counts[name], 0 if "weighting" in settings else masks)
        assert (array == (frozen[name] * theta).astype("f4")).all()
    learner = FLEET["client-02"]
    learner.prepare(0)
    learner.load(found)
    metrics = result.exchanges[-1].metrics["client-02"]
    assert metrics["accuracy"] == metrics["accuracy_mean"] == learner.evaluate()["accuracy"]


def test_a_packed_model_without_one_of_its_arrays_is_not_expanded() -> None:
    spec = Spec([("w.weight", ArraySpec("f32", (4, 3))), ("scale", ArraySpec("f32", (4,)))])
    scale = np.ones(4, np.float32)
    packed = pack_model(spec, {"w.weight": np.ones((4, 3), bool)}, {"scale": scale}, 0, "signed")
    assert (expand(packed)["scale"] == scale).all()
    del packed["scale"]
    with pytest.raises(CodecError, match="malformed"):
        expand(packed)


@pytest.mark.parametrize("arrays", [{}, {HEADER: np.zeros(3, np.uint8), MASK: np.zeros(3, np.uint8)}])
def test_what_is_no_packed_model_is_not_expanded(arrays: Arrays) -> None:
    assert is_packed(arrays) == bool(arrays)
    with pytest.raises(CodecError, match="malformed"):
        expand(arrays)
