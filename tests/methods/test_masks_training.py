"""Laws of the client half of sparse random networks: estimators, regularisers, drift, density, views."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.methods.fleet import client_of, first_model, learners, run_settings, simulated
from thinwire.codecs import Array, Arrays, ArraySpec, Spec
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.problem_file import LearningProblem
from thinwire.methods.arrays import headed, under
from thinwire.methods.definition import define
from thinwire.methods.sparse_masks import SparseMasksSettings
from thinwire.methods.sparse_masks.frozen import draw, first_scores, frozen_weights
from thinwire.methods.sparse_masks.masked_model import expand
from thinwire.methods.sparse_masks.training import MaskedModel, drawn, train_scores
from thinwire.methods.values import EVALUATE, Contribution, State, Task
from thinwire.protocol.identity import client_seed

FLEET = learners(3, hidden=(16,))
MODEL = first_model(FLEET)
QUICK = {"epochs": 1}


def tiny_learner(model: Any = None) -> Learner:
    def data(client: ClientInfo) -> Data:
        random = np.random.default_rng(1)
        inputs = torch.from_numpy(random.standard_normal((24, 1, 4, 4), np.float32))
        return Data(
            train=(inputs, torch.from_numpy(random.integers(0, 3, 24))), evaluation=(inputs, torch.zeros(24).long())
        )

    def usual() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3))

    return Learner(LearningProblem(model or usual, data, nn.CrossEntropyLoss()), ClientInfo())


@pytest.mark.parametrize("ste", ["identity", "theta"])
@pytest.mark.parametrize(("regulariser", "lambda_"), [("mean", 0.0), ("mean", 40.0), ("entropy", 40.0)])
def test_training_is_straight_through_with_adam(ste: str, regulariser: str, lambda_: float) -> None:
    """Against autograd, which knows the estimator only as m + theta - theta.detach(). A score that rounding moves
    across a draw would change a mask: not under this seed.
    """
    learner = tiny_learner()
    learner.prepare(4)
    settings = SparseMasksSettings.model_validate(
        {"ste": ste, "regulariser": regulariser, "lambda": lambda_, "epochs": 2, "batch_size": 10}
    )
    frozen = frozen_weights(learner.spec, 1, "signed")
    scores = {name: first_scores(1, name, array.shape) for name, array in frozen.items()}
    found = train_scores(learner, frozen, scores, settings)

    bits = np.random.SFC64(4)
    s = torch.cat([torch.from_numpy(array.astype("f4").reshape(-1)) for array in scores.values()]).requires_grad_()
    w = torch.cat([torch.from_numpy(array.reshape(-1)) for array in frozen.values()])
    adam = torch.optim.Adam([s], lr=0.1)
    for epoch in range(2):
        for inputs, targets in (batch.pair for batch in learner.train.batches(10, 4 + epoch)):
            theta = torch.sigmoid(s)
            mask = drawn(theta.detach(), bits)
            through = theta if ste == "identity" else theta.square() / 2
            mask = mask + through - through.detach()
            pieces = torch.split(w * mask, [array.size for array in frozen.values()])
            w1, b1, w2, b2 = (p.view(a.shape) for p, a in zip(pieces, frozen.values(), strict=True))
            outputs = torch.tanh(inputs.flatten(1) @ w1.T + b1) @ w2.T + b2
            entropies = -(theta * theta.log2() + (1 - theta) * (1 - theta).log2())
            penalty = theta if regulariser == "mean" else entropies
            loss = learner.loss(outputs, targets) + lambda_ / len(s) * penalty.sum()
            adam.zero_grad()
            loss.backward()
            adam.step()
            with torch.no_grad():
                s.clamp_(-15, 15)
    flat = np.concatenate([array.reshape(-1) for array in found.values()])
    np.testing.assert_allclose(flat, s.detach().numpy(), rtol=0, atol=2e-3)


def normed(affine: bool) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(2, 4, affine=affine), nn.BatchNorm2d(4, affine=affine), nn.ReLU(),
        nn.Flatten(), nn.Linear(64, 3),
    )  # fmt: skip


@pytest.mark.parametrize("affine", [False, True])
def test_normalisation_layers_stay_and_their_statistics_are_averaged(affine: bool) -> None:
    learner = tiny_learner(lambda: normed(affine))
    learner.prepare(0)
    model = {name: array + (0.25 if name == "1.weight" else 0) for name, array in learner.arrays().items()}
    run = run_settings("sparse_masks", QUICK, rounds=2, cohort=1)
    server = define("run", run).server
    task = server.task(server.start(model, 0))
    assert task is not None
    assert set(task.reply) == {
        "0.weight",
        "0.bias",
        "5.weight",
        "5.bias",
        "buffers/2.running_mean",
        "buffers/2.running_var",
    }
    assert set(task.parts) == ({"fixed", "statistics"} if affine else {"statistics"})
    result = simulated(run, {"client": learner}, model)
    assert result.model is not None
    found = expand(result.model)
    assert list(found) == list(model)
    if affine:
        assert (found["1.weight"] == model["1.weight"]).all()
    assert (found["2.running_mean"] != model["2.running_mean"]).any()


def test_probabilities_stay_probabilities_and_can_come_back() -> None:
    learner = FLEET["client-00"]
    counts = {name: np.full(array.shape, 3, np.uint8) for name, array in MODEL.items()}
    counts["0.1.weight"][...] = 0
    task = Task(5, 0, "train", {"counts": counts}, Spec((n, ArraySpec("bool", a.shape)) for n, a in MODEL.items()),
                options={"seed": 0, "masks": 3})  # fmt: skip
    learner.prepare(1)
    stuck = client_of("sparse_masks", {**QUICK, "lambda": 0}).perform(task, {}, learner).answer.arrays
    learner.prepare(1)
    revived = client_of("sparse_masks", {**QUICK, "lambda": 0, "revive": 0.2}).perform(task, {}, learner).answer.arrays
    assert stuck["0.1.weight"].mean() < 0.001
    assert 0.05 < revived["0.1.weight"].mean() < 0.5
    with_one = simulated(run_settings("sparse_masks", QUICK, rounds=3), FLEET, MODEL).state
    for array in under("counts", with_one.arrays).values():
        assert int(array.max()) <= 3


def test_all_views_are_measured_in_the_end() -> None:
    result = simulated(run_settings("sparse_masks", {**QUICK, "view": "mean"}, rounds=2), FLEET, MODEL)
    assert result.exchanges[-1].kind == EVALUATE
    metrics = result.exchanges[-1].metrics["client-00"]
    assert {f"accuracy_{view}" for view in ("mode", "mean", "sample", "samples")} <= set(metrics)
    assert metrics["accuracy"] == metrics["accuracy_mean"]
    counts, masks = under("counts", result.state.arrays), int(result.state.arrays["masks"])
    learner = FLEET["client-00"]
    frozen = frozen_weights(learner.spec, 0, "signed")
    for view, share in {"mean": lambda theta: theta, "mode": lambda theta: theta > 0.5}.items():
        learner.load({name: (frozen[name] * share(array / masks)).astype("f4") for name, array in counts.items()})
        assert learner.evaluate()["accuracy"] == metrics[f"accuracy_{view}"]
    # A sample is drawn alike by all clients; the mean of three is of their outputs.
    samples = [
        MaskedModel(
            learner.model,
            learner.outputs,
            [
                {
                    name: torch.from_numpy(frozen[name] * draw(array / masks, 0, f"view-3-{index}/{name}"))
                    for name, array in counts.items()
                }
            ],
        )
        for index in range(3)
    ]
    assert learner.evaluate(samples[0])["accuracy"] == metrics["accuracy_sample"]
    inputs = learner.train.inputs[:5]
    mean = torch.stack([model(inputs) for model in samples]).mean(0)
    together = MaskedModel(learner.model, learner.outputs, [one for model in samples for one in model.sets])
    torch.testing.assert_close(together(inputs), mean)
    assert learner.evaluate(together)["accuracy"] == metrics["accuracy_samples"]


def test_the_rate_of_papers_stands_beside_what_is_paid() -> None:
    result = simulated(run_settings("sparse_masks", QUICK, rounds=4), FLEET, MODEL)
    parameters = sum(array.size for array in MODEL.values())
    for exchange in result.exchanges[:-1]:
        rates = [metrics["bpp_array"] for metrics in exchange.metrics.values()]
        assert all(0.3 < rate < 1.2 for rate in rates)
    assert 8 * exchange.uplink_bytes / parameters < sum(rates)


def test_density_falls_with_lambda() -> None:
    for seed in (0, 1, 2):
        densities = []
        for lambda_ in (0.0, 5.0, 100.0):
            run = run_settings(
                "sparse_masks", {"epochs": 3, "lambda": lambda_}, rounds=3, seed=seed, uplink="pack_bits"
            )
            densities.append(simulated(run, FLEET, MODEL).exchanges[2].mean("density"))
        assert densities[0] > densities[1] + 0.05 > densities[2] + 0.1


def drifted(masks: int, rounds: int) -> list[Array]:
    """The distribution of a count after each round of resampling alone, exactly, from 1/2."""
    counts = np.arange(masks + 1)
    ways = np.array([math.comb(masks, count) for count in counts], float)
    step = ways * (counts / masks)[:, None] ** counts * (1 - counts / masks)[:, None] ** (masks - counts)
    found = [ways / 2**masks]
    for _ in range(rounds - 1):
        found.append(found[-1] @ step)
    return found


def undecided(counts: Array, masks: int) -> tuple[Array, Array]:
    """theta (1 - theta), and the entropy of a mask's bit given its count."""
    theta = counts / masks
    inside = np.clip(theta, 1e-12, 1 - 1e-12)
    bits = -(inside * np.log2(inside) + (1 - inside) * np.log2(1 - inside))
    return theta * (1 - theta), np.where((theta > 0) & (theta < 1), bits, 0)


@pytest.mark.parametrize("masks", [2, 4, 10])
def test_resampling_alone_loses_a_kth_of_what_is_undecided_in_every_round(masks: int) -> None:
    """theta (1 - theta) exactly so in every round; the conditional entropy once some 2 K rounds have passed."""
    chain = drifted(masks, 3 * masks + 1)
    values = [[float(one @ values) for values in undecided(np.arange(masks + 1), masks)] for one in chain]
    for (variance, _), (after, _) in pairwise(values):
        assert after == pytest.approx((1 - 1 / masks) * variance, rel=1e-9)
    assert values[-1][1] / values[-2][1] == pytest.approx(1 - 1 / masks, abs=0.005)


@pytest.mark.parametrize("window", [1, 3])
def test_without_learning_a_run_drifts_as_resampling_does(window: int) -> None:
    """Both halves at a rate that moves no score: in the j-th round since a reset 1 / (j**2 K) is lost; what is decided
    stays so.
    """
    clients, rounds = 4, 6
    fleet = learners(clients, hidden=(192,))
    settings = {"epochs": 1, "lr": 1e-30, "batch_size": 64, "aggregation": "beta", "reset_every": window}
    run = run_settings("sparse_masks", settings, rounds=rounds, cohort=clients)
    server, half = define("run", run).server, client_of(run.method, run.settings)
    random = np.random.default_rng(2)
    # As if a first round of even chances were over.
    counts = {
        name: random.binomial(clients, 0.5, array.shape).astype("u1") for name, array in first_model(fleet).items()
    }
    state = State(2, 0, {**headed("counts", counts), "masks": np.array(clients, np.uint32)})
    chain = drifted(clients, rounds)
    while (task := server.task(state)) is not None:
        before, masks = flat(under("counts", state.arrays)), int(state.arrays["masks"])
        total = server.reducer.zero()
        for slot, (name, learner) in enumerate(fleet.items()):
            learner.prepare(client_seed(0, state.round, 0, name))
            answer = half.perform(task, {}, learner).answer
            total = server.reducer.add(total, Contribution(slot, name, answer.examples, answer.arrays))
        since = 1 + (state.round - 1) % window
        state = server.advance(state, total)
        after, counted = flat(under("counts", state.arrays)), int(state.arrays["masks"])
        assert counted == clients * since
        variance, bits = undecided(after, counted)
        expected = (1 - 1 / (since**2 * clients)) * undecided(before, masks)[0].mean()
        assert variance.mean() == pytest.approx(expected, rel=0.03)
        if window == 1:
            assert bits.mean() == pytest.approx(
                chain[state.round - 2] @ undecided(np.arange(clients + 1), clients)[1], rel=0.04
            )
        decided = (before == 0) | (before == masks)
        assert (after[decided] / counted == before[decided] / masks).all()


def flat(arrays: Arrays) -> Array:
    return np.concatenate([array.reshape(-1) for array in arrays.values()]).astype(int)


def test_training_on_the_digits_works() -> None:
    fleet = learners(3, examples=600, hidden=(64,))
    parameters = sum(array.size for array in first_model(fleet).values())
    result = simulated(
        run_settings("sparse_masks", {"epochs": 4, "lambda": 0.5, "view": "mean"}, rounds=5), fleet, first_model(fleet)
    )
    assert result.exchanges[0].mean("accuracy") < 0.3
    assert result.exchanges[-1].mean("accuracy") > 0.6
    dense = 4 * parameters * 3 * 5
    assert sum(e.uplink_bytes for e in result.exchanges) < dense / 32
