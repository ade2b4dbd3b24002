"""Laws of dual-side low-rank compression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from tests.methods.fleet import client_of, first_model, learners, run_settings, simulated
from thinwire.codecs import Arrays, Chain, Spec
from thinwire.codecs.decomposition import EXACT, factorise, low_rank_names, unfold
from thinwire.methods.feddlr import METHOD, FeddlrSettings
from thinwire.methods.feddlr.compact import compact_like, compact_model, smallest_energy, truncate_model
from thinwire.methods.feddlr.server import Server
from thinwire.methods.reducers import Bounds
from thinwire.methods.server_half import RunFacts
from thinwire.methods.tensors import model_arrays
from thinwire.methods.values import Contribution, Task

FLEET = learners(3, split="dirichlet:1")
MODEL = first_model(FLEET)
LOW_RANK = low_rank_names(Spec.of(MODEL))
EXACT_ENERGY = {"energy_down": 1.0, "energy_up": 1.0, "factors": "zstd"}


def rank(array: Any, energy: float = EXACT, unfolding: Any = "channel") -> int:
    return factorise(unfold(array, unfolding), energy)[0].shape[1]


def close(first: Arrays | None, second: Arrays | None, atol: float) -> None:
    assert first is not None
    assert second is not None
    for name in first:
        np.testing.assert_allclose(first[name], second[name], rtol=0, atol=atol)


@pytest.mark.parametrize("what", ["update", "weights"])
@pytest.mark.parametrize("unfolding", ["channel", "spatial"])
def test_at_full_energy_it_is_fedavg_to_float_accuracy(what: str, unfolding: str) -> None:
    run = run_settings("feddlr", {"object": what, "unfolding": unfolding, **EXACT_ENERGY}, rounds=2)
    expected = simulated(run_settings("fedavg", chains="plain", rounds=2), FLEET, MODEL)
    close(simulated(run, FLEET, MODEL).model, expected.model, 2e-5)


def test_plain_chains_with_updates_are_fedavg_bit_for_bit() -> None:
    found = simulated(run_settings("feddlr", chains="plain"), FLEET, MODEL)
    expected = simulated(run_settings("fedavg", chains="plain"), FLEET, MODEL)
    close(found.model, expected.model, 0)


def test_ranks_that_differ_by_client_are_averaged_as_matrices() -> None:
    caps = {"client-00": 1, "client-01": 3}
    given = {"max_ranks": caps, "energy_up": 1.0, "factors": "zstd"}
    run = run_settings("feddlr", given, rounds=1, evaluate=False)
    alone = {}
    for name in FLEET:
        one = simulated(run_settings("feddlr", given, rounds=1, cohort=1, evaluate=False), {name: FLEET[name]}, MODEL)
        assert one.model is not None
        alone[name] = {key: one.model[key] - MODEL[key] for key in MODEL}
        for key in LOW_RANK:
            # The sum with a float32 model leaves rounding noise beneath the update.
            assert (rank(alone[name][key], 1 - 1e-6) <= caps[name]) if name in caps else rank(alone[name][key]) > 3
    together = simulated(run, FLEET, MODEL).model
    total = sum(len(learner.train) for learner in FLEET.values())
    mean = {key: MODEL[key] + sum(len(FLEET[name].train) / total * alone[name][key] for name in FLEET) for key in MODEL}
    close(together, mean, 1e-6)


def test_weights_are_answered_as_weights_and_their_mean_is_the_model() -> None:
    settings = FeddlrSettings(object="weights")
    server = Server(settings, RunFacts(1, 0, Bounds(2)))
    state = server.start({"w": np.full((2, 2), 5.0, np.float32)}, 0)
    total = server.reducer.zero()
    for slot, (examples, value) in enumerate([(1, 1.0), (3, 3.0)]):
        total = server.reducer.add(total, Contribution(slot, "c", examples, {"w": np.full((2, 2), value, np.float32)}))
    np.testing.assert_allclose(server.model(server.advance(state, total))["w"], 2.5)


def test_payloads_shrink_on_both_links_after_the_first_dense_broadcast() -> None:
    baseline = simulated(run_settings("fedavg", rounds=4, evaluate=False, chains="plain"), FLEET, MODEL).exchanges
    found = simulated(run_settings("feddlr", rounds=4, evaluate=False), FLEET, MODEL).exchanges
    assert found[0].downlink_bytes > 0.8 * baseline[0].downlink_bytes
    for mine, theirs in zip(found[1:], baseline[1:], strict=True):
        assert mine.downlink_bytes < 0.25 * theirs.downlink_bytes
        assert mine.uplink_bytes < 0.25 * theirs.uplink_bytes


@pytest.mark.parametrize("what", ["update", "weights"])
def test_one_sided_leaves_the_other_direction_dense(what: str) -> None:
    sizes = {}
    for sides in ("both", "up", "down"):
        run = run_settings("feddlr", {"sides": sides, "object": what, "max_rank": 2}, rounds=3, evaluate=False)
        sizes[sides] = simulated(run, FLEET, MODEL).exchanges[-1]
    assert sizes["up"].downlink_bytes > 2 * sizes["both"].downlink_bytes
    assert sizes["up"].uplink_bytes < 1.1 * sizes["both"].uplink_bytes
    assert sizes["down"].uplink_bytes > 2 * sizes["both"].uplink_bytes
    assert sizes["down"].downlink_bytes < 1.1 * sizes["both"].downlink_bytes


def test_truncated_weights_ratchet_down_to_a_few_ranks() -> None:
    """A property of the literal reading at energy 0.9: the ranks fall and stay low."""
    run = run_settings("feddlr", {"object": "weights", "lr": 0.05}, rounds=12, evaluate=False)
    result = simulated(run, FLEET, MODEL)
    assert result.model is not None
    for name in LOW_RANK:
        assert rank(result.model[name], 0.9) <= 10 < rank(MODEL[name], 0.9)
    assert [e.kind for e in result.exchanges] == ["first"] + 11 * ["train"]


def test_a_schedule_changes_the_energies_from_its_rounds_on() -> None:
    settings = {"schedule": [[2, 0.5, 0.6], [4, 0.98, 0.99]]}
    run = run_settings("feddlr", settings, rounds=5, evaluate=False)
    exchanges = simulated(run, FLEET, MODEL).exchanges
    assert [e.kind for e in exchanges] == ["train", "train-2", "train-2", "train-4", "train-4"]
    assert exchanges[2].uplink_bytes < exchanges[0].uplink_bytes < exchanges[3].uplink_bytes
    chains = METHOD.chains(FeddlrSettings.model_validate(settings))
    assert "energy=0.5" in str(chains["train-2"].down)
    assert "energy=0.6" in str(chains["train-2"].up)


@pytest.mark.parametrize("schedule", [[[3, 0.5, 0.5], [2, 0.9, 0.9]], [[2, 0.5, 0.5], [2, 0.6, 0.6]], [[2, 0, 0.5]]])
def test_a_schedule_ascends(schedule: list[list[float]]) -> None:
    with pytest.raises(ValidationError):
        FeddlrSettings.model_validate({"schedule": schedule})


def test_the_model_is_truncated_at_the_end_and_measured_so() -> None:
    exact = simulated(run_settings("feddlr", rounds=2), FLEET, MODEL)
    small = simulated(run_settings("feddlr", {"compact_energy": 0.4}, rounds=2), FLEET, MODEL)
    assert exact.model is not None
    assert small.model is not None
    # Their plans name other settings.
    alike = [[replace(one, plan_bytes=0) for one in run.exchanges[:-1]] for run in (small, exact)]
    assert alike[0] == alike[1]
    assert small.exchanges[-1].mean("loss") != exact.exchanges[-1].mean("loss")
    for name, array in exact.model.items():
        if name in LOW_RANK:
            assert rank(small.model[name]) == rank(array, 0.4) < rank(array)
        else:
            np.testing.assert_array_equal(small.model[name], array)


@pytest.mark.parametrize("unfolding", ["channel", "spatial"])
def test_the_nuclear_norm_pulls_along_u_v(unfolding: str) -> None:
    learner = FLEET["client-00"]
    learner.prepare(0)
    learner.load(MODEL)
    penalty = client_of("feddlr", {"nuclear_norm": 0.25, "unfolding": unfolding}).penalty(learner, MODEL)  # type: ignore[attr-defined]
    learner.model.zero_grad()
    penalty(learner.model).backward()
    slopes = {name: parameter.grad for name, parameter in learner.model.named_parameters()}
    for name, array in MODEL.items():
        if name not in LOW_RANK:
            assert slopes[name] is None
            continue
        u, _, v = np.linalg.svd(unfold(array, unfolding), full_matrices=False)  # type: ignore[arg-type]
        slope = slopes[name]
        assert slope is not None
        np.testing.assert_allclose(unfold(slope.numpy(), unfolding), 0.25 * u @ v, rtol=0, atol=1e-4)  # type: ignore[arg-type]


def network() -> nn.Module:
    """Layers of all kinds: strides, padding, dilation, groups, a shared weight, a bias-free layer."""
    torch.manual_seed(0)
    shared = nn.Conv2d(24, 24, 3, padding="same")
    again = nn.Conv2d(24, 24, 3, padding="same")
    again.weight = shared.weight
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 24, (3, 5), stride=(2, 1), padding=(2, 1), dilation=(2, 1)), nn.GroupNorm(4, 24), nn.ReLU(),
        shared, again, nn.ReLU(),
        nn.Conv2d(24, 24, 3, groups=2), nn.Conv2d(24, 20, 3, padding="same", bias=False), nn.ReLU(),
        nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(180, 64), nn.ReLU(), nn.Linear(64, 10),
    )  # fmt: skip


@pytest.mark.parametrize("unfolding", ["channel", "spatial"])
@pytest.mark.parametrize("options", [{"energy": 0.5}, {"energy": 0.8, "ends": False}, {"energy": 1.0, "max_rank": 4}])
def test_the_compact_model_computes_what_the_truncated_one_does(unfolding: Any, options: Mapping[str, Any]) -> None:
    model = network().eval()
    inputs = torch.randn(5, 3, 16, 16)
    truncated = truncate_model(model, unfolding=unfolding, **options)
    compact = compact_model(model, unfolding=unfolding, **options)
    with torch.no_grad():
        expected, whole = truncated(inputs), model(inputs)
        torch.testing.assert_close(compact(inputs), expected, rtol=0, atol=2e-5)
        assert float((expected - whole).abs().max()) > 1e-3
    size = [sum(parameter.numel() for parameter in one.parameters()) for one in (compact, model)]
    assert size[0] < size[1]
    assert [type(layer).__name__ for layer in compact].count("Sequential") >= 3
    # What was truncated once is compact at its numerical rank.
    again = compact_model(truncated, unfolding=unfolding, ends=options.get("ends", True))
    with torch.no_grad():
        torch.testing.assert_close(again(inputs), expected, rtol=0, atol=2e-5)
    assert sum(parameter.numel() for parameter in again.parameters()) == size[0]
    # Its arrays alone are enough to build it again.
    built = compact_like(network().eval(), model_arrays(compact))
    with torch.no_grad():
        torch.testing.assert_close(built(inputs), compact(inputs), rtol=0, atol=0)


def test_a_model_that_cannot_shrink_stays_as_it_is() -> None:
    model = network().eval()
    inputs = torch.randn(2, 3, 16, 16)
    same = compact_model(model)
    assert [type(layer) for layer in same] == [type(layer) for layer in model]
    with torch.no_grad():
        torch.testing.assert_close(same(inputs), model(inputs), rtol=0, atol=0)


def test_the_smallest_energy_within_the_tolerance() -> None:
    model = network().eval()

    def loss(one: nn.Module) -> float:
        """How far the weights are from the model's."""
        pairs = zip(one.parameters(), model.parameters(), strict=True)
        return float(sum((mine - theirs).detach().square().sum() for mine, theirs in pairs))

    grid = (0.5, 0.7, 0.9)
    losses = [loss(truncate_model(model, energy=energy)) for energy in grid]
    assert losses[0] > losses[1] > losses[2] > 0
    assert smallest_energy(model, loss, tolerance=losses[1], energies=grid) == 0.7
    assert smallest_energy(model, loss, tolerance=losses[0], energies=grid) == 0.5
    assert smallest_energy(model, loss, tolerance=losses[2] / 2, energies=grid) == 1.0


def answered(settings: dict[str, Any], uplink: str, name: str = "client-02", most: int | None = None) -> Capped:
    """What this client answers under a plan with this uplink chain, and what the coordinator decodes of it."""
    learner, chain, reply = FLEET[name], Chain.parse(uplink), Spec.of(MODEL)
    learner.max_answer_bytes = most
    learner.prepare(1, reply=reply, uplink=chain, reference=MODEL)
    exact = client_of("feddlr", settings).perform(Task(1, 0, "train", {"model": MODEL}, reply), {}, learner)
    payload = learner.encoded(exact.answer.arrays)
    learner.max_answer_bytes = None
    return exact.answer.arrays, payload, chain.decode(payload, reply, reference=MODEL, seed=1)


Capped = tuple[Arrays, bytes, Arrays]
UPLINKS = ["low_rank(0.99), cast(f16), byte_shuffle(2), zstd", "low_rank(0.99), quantise(8), entropy"]


@pytest.mark.parametrize("uplink", UPLINKS)
def test_caps_are_for_the_client_they_name(uplink: str) -> None:
    """The rank is the smaller of the energy's and the cap: nothing is truncated twice."""
    exact, _, capped = answered({"max_ranks": {"client-02": 2}}, uplink)
    _, _, free = answered({"max_ranks": {"client-01": 2}}, uplink)
    for name in LOW_RANK:
        assert rank(capped[name], 1 - 1e-6) == min(2, rank(exact[name], 0.99)) < rank(free[name], 1 - 1e-6)
    for name in set(MODEL) - set(LOW_RANK):
        np.testing.assert_array_equal(capped[name], free[name])


@pytest.mark.parametrize("uplink", UPLINKS)
def test_an_answer_fits_what_its_client_is_ready_to_send(uplink: str) -> None:
    exact, free, _ = answered({}, uplink)
    most = len(free) * 2 // 3
    _, payload, decoded = answered({}, uplink, most=most)
    assert most / 2 < len(payload) <= most
    for name in LOW_RANK:
        assert 1 <= rank(decoded[name], 1 - 1e-6) <= rank(exact[name], 0.99)
    # What does not fit at rank 1 is not sent: see the client's limits.
    assert len(answered({}, uplink, most=10)[1]) > 10
    assert answered({}, uplink, most=len(free))[1] == free


def test_accuracy_survives_a_quarter_of_the_bytes() -> None:
    """Of the last three evaluations, two seeds: processors that add in another order end some examples elsewhere."""
    fleet = learners(4, examples=600)
    model = first_model(fleet)

    def ended(method: str, **run: Any) -> tuple[float, int]:
        runs = [
            simulated(run_settings(method, {"lr": 0.05}, rounds=10, cohort=4, seed=seed, **run), fleet, model).exchanges
            for seed in range(2)
        ]
        last = [one.mean("accuracy") for exchanges in runs for one in exchanges[-3:]]
        return sum(last) / len(last), sum(one.uplink_bytes for exchanges in runs for one in exchanges)

    (small, small_bytes), (dense, dense_bytes) = ended("feddlr"), ended("fedavg", chains="plain")
    assert small > dense - 0.08
    assert small_bytes < 0.25 * dense_bytes
