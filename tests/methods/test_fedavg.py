"""Laws of federated averaging, FedProx, and the server's optimisers within it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.methods.fleet import client_of, first_model, learners, run_settings, simulated
from thinwire.codecs import Arrays, CodecError, Spec
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.problem_file import LearningProblem
from thinwire.methods.definition import define
from thinwire.methods.training import train_locally
from thinwire.methods.values import Contribution, Task
from thinwire.protocol.identity import client_seed

FLEET = learners(3, split="dirichlet:1")
MODEL = first_model(FLEET)
SETTINGS = {"lr": 0.02, "epochs": 2}


def trained(learner: Learner, model: Arrays, settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """The weights this client ends with."""
    learner.prepare(seed)
    learner.load(model)
    task = Task(1, 0, "train", {}, Spec())
    train_locally(learner, client_of("fedavg", settings).settings, task)
    return learner.arrays()


def ulps(array: Any, scale: float) -> float:
    return float(np.spacing(np.float32(max(scale, float(np.abs(array).max())))))


def test_one_client_gives_its_own_weights() -> None:
    """To float rounding: w + (w_k - w) is not w_k in float32."""
    run = run_settings("fedavg", SETTINGS, rounds=1, cohort=1, chains="plain")
    name = "client-01"
    result = simulated(run, {name: FLEET[name]}, MODEL)
    expected = trained(FLEET[name], MODEL, SETTINGS, client_seed(0, 1, 0, name))
    assert result.model is not None
    for key, array in expected.items():
        np.testing.assert_allclose(
            result.model[key], array, rtol=0, atol=2 * ulps(array, float(np.abs(MODEL[key]).max()))
        )


def test_equal_answers_give_the_same_as_one() -> None:
    server = define("run", run_settings("fedavg")).server
    state = server.start(MODEL, 0)
    update = {name: np.full_like(array, 0.25) for name, array in MODEL.items()}
    total = server.reducer.zero()
    for slot, examples in enumerate((1, 17, 60)):
        total = server.reducer.add(total, Contribution(slot, f"c{slot}", examples, update))
    model = server.model(server.advance(state, total))
    assert model is not None
    for name, array in MODEL.items():
        np.testing.assert_allclose(model[name], array + np.float32(0.25), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("weighting", "expected"), [("examples", 2.5), ("uniform", 2.0)])
def test_the_weights_are_the_numbers_of_examples_or_all_equal(weighting: str, expected: float) -> None:
    server = define("run", run_settings("fedavg", {"weighting": weighting})).server
    state = server.start({"w": np.zeros(2, np.float32)}, 0)
    total = server.reducer.zero()
    for slot, (examples, value) in enumerate([(10, 1.0), (30, 3.0)]):
        answer = Contribution(slot, f"c{slot}", examples, {"w": np.full(2, value, np.float32)})
        total = server.reducer.add(total, answer)
    model = server.model(server.advance(state, total))
    assert model is not None
    np.testing.assert_allclose(model["w"], expected, rtol=1e-9)


def linear_learner(dtype: torch.dtype = torch.float64) -> Learner:
    """Least squares of 20 points: a loss whose gradient is bounded where we walk."""

    def data(client: ClientInfo) -> Data:
        random = np.random.default_rng(1)
        inputs = torch.from_numpy(random.standard_normal((20, 3))).to(dtype)
        return Data(train=(inputs, inputs @ torch.tensor([[1.0], [-2.0], [0.5]], dtype=dtype)))

    def model() -> nn.Module:
        return nn.Linear(3, 1, dtype=dtype)

    return Learner(LearningProblem(model, data, nn.MSELoss()), ClientInfo())


def distance(mu: float) -> float:
    """||w_k - w|| with lr * mu = 1/2."""
    learner = linear_learner()
    learner.prepare(0)
    settings = {"proximal_mu": mu, "lr": 0.5 / mu, "momentum": 0.0, "epochs": 40, "batch_size": 20}
    model = {name: np.zeros_like(array) for name, array in learner.arrays().items()}
    task = Task(1, 0, "train", {"model": model}, Spec.of(model))
    answer = client_of("fedavg", settings).perform(task, {}, learner).answer.arrays
    return float(np.sqrt(sum(np.square(array).sum() for array in answer.values())))


def test_the_proximal_term_keeps_clients_within_one_over_mu() -> None:
    distances = {mu: distance(mu) for mu in (10.0, 100.0, 1000.0)}
    assert distances[10.0] > distances[100.0] > distances[1000.0] > 0
    # For large mu the fixed point is gradient / mu.
    assert distances[100.0] / distances[1000.0] == pytest.approx(10, rel=0.1)


def test_the_proximal_gradient_is_mu_times_the_way_gone() -> None:
    """Two steps by hand on least squares: the second one knows of the first."""
    learner = linear_learner()
    lr, mu = 0.05, 3.0
    learner.prepare(0)
    start = {name: torch.from_numpy(array) for name, array in learner.arrays().items()}
    inputs, targets = learner.train.few(len(learner.train)).batch.pair

    def gradient(w: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        residual = inputs @ w.T + b - targets
        return 2 * residual.T @ inputs / len(inputs), 2 * residual.mean(0)

    w, b = start["weight"], start["bias"]
    for _ in range(2):
        gw, gb = gradient(w, b)
        w, b = w - lr * (gw + mu * (w - start["weight"])), b - lr * (gb + mu * (b - start["bias"]))
    settings = {"proximal_mu": mu, "lr": lr, "momentum": 0.0, "epochs": 2, "batch_size": 20}
    received = {name: tensor.numpy() for name, tensor in start.items()}
    task = Task(1, 0, "train", {"model": received}, Spec.of(received))
    answer = client_of("fedavg", settings).perform(task, {}, learner).answer.arrays
    np.testing.assert_allclose(answer["weight"], (w - start["weight"]).numpy(), rtol=1e-9)
    np.testing.assert_allclose(answer["bias"], (b - start["bias"]).numpy(), rtol=1e-9)


def test_the_first_step_of_the_adaptive_rules_is_that_of_reddi() -> None:
    for rule in ("adam", "yogi"):
        server = define("run", run_settings("fedavg", {"server_optimizer": rule, "server_lr": 0.1})).server
        state = server.start({"w": np.zeros(1, np.float32)}, 0)
        total = server.reducer.add(server.reducer.zero(), Contribution(0, "c", 5, {"w": np.array([0.5], np.float32)}))
        after = server.advance(state, total)
        v = 0.99 * 1e-6 + 0.01 * 0.25 if rule == "adam" else 1e-6 + 0.01 * 0.25
        model = server.model(after)
        assert model is not None
        np.testing.assert_allclose(model["w"], 0.1 * 0.05 / (np.sqrt(v) + 1e-3), rtol=1e-5)
        assert set(after.arrays) == {"model/w", "first/w", "second/w"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"lr_decay": 0.5}, [0.1, 0.05, 0.025]),
        ({"lr_schedule": "cosine"}, [0.1, 0.075, 0.025]),
        ({"lr_schedule": "cosine", "lr_decay": 0.5}, [0.1, 0.0375, 0.00625]),
    ],
)
def test_the_rate_falls_by_round_and_travels_only_then(given: dict[str, Any], expected: list[float]) -> None:
    server = define("run", run_settings("fedavg", {"lr": 0.1, **given}, rounds=3)).server
    state = server.start(MODEL, 0)
    rates = []
    for _ in range(3):
        task = server.task(state)
        assert task is not None
        rates.append(task.options["lr"])
        zero = {name: np.zeros_like(array) for name, array in MODEL.items()}
        state = server.advance(state, server.reducer.add(server.reducer.zero(), Contribution(0, "c", 1, zero)))
    assert rates == pytest.approx(expected)
    task = define("run", run_settings("fedavg")).server.task(server.start(MODEL, 0))
    assert task is not None
    assert not task.options


def test_the_received_arrays_are_measured_before_training() -> None:
    learner = FLEET["client-00"]
    learner.prepare(3)
    learner.load(MODEL)
    expected = learner.evaluate()
    task = Task(1, 0, "train", {"model": MODEL}, Spec.of(MODEL))
    outcome = client_of("fedavg").perform(task, {}, learner)
    assert dict(outcome.answer.metrics) == expected
    assert outcome.answer.examples == len(learner.train)


@pytest.mark.parametrize("arrays", [{}, {"w": np.zeros(3, np.int64)}])
def test_a_model_without_floats_is_refused(arrays: Arrays) -> None:
    with pytest.raises(CodecError, match="bad-spec"):
        define("run", run_settings("fedavg")).server.start(arrays, 0)


def test_training_on_the_digits_works() -> None:
    """Ten rounds under the default settings and chains."""
    fleet = learners(4, examples=600, split="dirichlet:1")
    result = simulated(run_settings("fedavg", rounds=10, cohort=4), fleet, first_model(fleet))
    assert result.exchanges[-1].mean("accuracy") > 0.85
    assert result.exchanges[0].mean("accuracy") < 0.3
