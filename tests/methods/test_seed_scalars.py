"""Laws of `seed_scalars`: what travels, what everybody makes of it, and that nobody's way there matters."""

from __future__ import annotations

import tracemalloc
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.methods.fleet import client_of, first_model, learners, run_settings, simulated
from thinwire.codecs import Arrays
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.problem_file import LearningProblem
from thinwire.methods.arrays import same_bits
from thinwire.methods.checkpoint import pack_state
from thinwire.methods.definition import define
from thinwire.methods.seed_scalars import START, STEPS
from thinwire.methods.seed_scalars.client import signs
from thinwire.methods.seed_scalars.directions import direction_bytes, flat
from thinwire.methods.seed_scalars.directions import signs as numpy_signs
from thinwire.methods.seed_scalars.stored import expand_history
from thinwire.methods.simulation import Participant, Simulated, simulate
from thinwire.methods.sums import Total
from thinwire.methods.values import Task

FLEET = learners(3, examples=120, hidden=(12,))
MODEL = first_model(FLEET)
EVERYBODY = sorted(FLEET)
SETTINGS: list[dict[str, Any]] = [{"perturbations": 3}, {"steps": 2, "perturbations": 2}, {"window": 5, "steps": 2}]
each_settings = pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "steps", "window"])
GOLDEN = {
    (0, (1, 0, 0)): "568dded395f1b535",
    (7, (3, 2, 1)): "6269e47a481b9822",
    (2**63 - 1, (0, 0, 4095)): "60cef924dcea32cb",
}


def run_of(settings: dict[str, Any], rounds: int = 6, **run: Any) -> Any:
    return run_settings("seed_scalars", {"lr": 0.02, **settings}, rounds=rounds, quorum=1, seed=3, **run)


def played(settings: dict[str, Any], sets: Sequence[Collection[str]], rounds: int = 6) -> Simulated:
    return simulated(run_of(settings, rounds), FLEET, MODEL, contributors=sets)


def test_bytes_of_an_answer_do_not_depend_on_the_model() -> None:
    sizes = set()
    for hidden in ((4,), (40, 40)):
        fleet = learners(1, examples=40, hidden=hidden)
        done = simulated(run_of({}, 1, cohort=1, evaluate=False), fleet, first_model(fleet))
        sizes.add(done.exchanges[0].uplink_bytes)
    assert sizes == {8 * 4 + 1}


@each_settings
def test_a_client_that_missed_rounds_ends_in_the_bits_of_one_that_missed_none(settings: dict[str, Any]) -> None:
    """The last two exchanges measure every client's model: all of them have the one that the stored file makes."""
    sets = [
        ["client-00"],
        ["client-00"],
        ["client-00", "client-01"],
        ["client-00"],
        ["client-00"],
        EVERYBODY,
        EVERYBODY,
    ]
    run = run_of(settings)
    half = client_of("seed_scalars", run.settings)
    seen: dict[str, np.ndarray[Any, Any]] = {}

    class Looking:
        def __init__(self, learner: Learner) -> None:
            self.learner = learner

        def needs(self) -> Any:
            return half.needs()

        def check(self, task: Task, _: Any) -> None: ...

        def perform(self, task: Task, memory: Arrays, learner: Any) -> Any:
            outcome = half.perform(task, memory, learner)
            if task.kind == "evaluate":
                seen[learner.name] = flat(learner.arrays())
            return outcome

    clients: dict[str, Any] = {name: Participant(Looking(one), one) for name, one in FLEET.items()}  # type: ignore[arg-type]
    done = simulate(run, MODEL, clients, contributors=sets)
    assert done.model is not None
    expected = flat(expand_history(done.model, MODEL))
    assert not np.array_equal(expected, flat(MODEL))
    assert set(seen) == set(EVERYBODY)
    for found in seen.values():
        assert found.tobytes() == expected.tobytes()


def test_what_was_missed_costs_no_more_than_it_cost_those_who_were_there() -> None:
    """A client comes back after twenty rounds: it is sent twenty rows, and nothing of the model."""
    always, back = ["client-00"], ["client-00", "client-01"]
    run = run_of({}, 22, evaluate=False)
    sets = [back, *[always] * 20, back]
    exchanges = simulated(run, FLEET, MODEL, contributors=sets).exchanges
    one = [exchanged.downlink_bytes for exchanged in exchanges]
    missed = one[21] - one[20]
    assert missed <= sum(one[1:21]) + one[20]
    assert missed < 21 * (8 * 4) + 8


@each_settings
def test_a_client_without_memory_or_with_that_of_another_run_begins_at_the_start(settings: dict[str, Any]) -> None:
    run = run_of(settings, 3)
    server = define("run", run).server
    done = simulated(run, FLEET, MODEL)
    task = server.evaluation(done.state)
    assert task is not None
    half = client_of("seed_scalars", run.settings)
    learner = FLEET["client-00"]
    found = []
    wrong = {
        "weights": np.zeros(flat(MODEL).size, np.float32),
        "rounds": np.array(2, np.uint32),
        "known": np.zeros(32, np.uint8),
    }
    for memory in ({}, wrong, {**wrong, "rounds": np.array(9, np.uint32)}):
        learner.prepare(1)
        half.perform(task, memory, learner)
        found.append(learner.arrays())
    assert done.model is not None
    assert all(same_bits(one, expand_history(done.model, MODEL)) for one in found)


@pytest.mark.parametrize("key", GOLDEN, ids=str)
def test_directions_are_those_written_down(key: tuple[int, tuple[int, int, int]]) -> None:
    packed = direction_bytes(*key, 64)
    assert packed.tobytes().hex() == GOLDEN[key]
    assert direction_bytes(*key, 61)[:7].tobytes() == packed[:7].tobytes()


@pytest.mark.parametrize("size", [1, 7, 8, 63, 64, 65, 1000])
def test_directions_are_the_same_in_numpy_and_torch(size: int) -> None:
    key = (4, 1, 2)
    mine = numpy_signs(direction_bytes(9, key, size), size)
    theirs = signs(9, key, torch.zeros(size)).numpy()
    assert set(np.unique(mine)) <= {-1.0, 1.0}
    assert mine.tobytes() == theirs.tobytes()


def test_directions_have_the_moments_of_independent_signs() -> None:
    count, size = 4000, 12
    drawn = np.stack([numpy_signs(direction_bytes(1, (t, 0, 0), size), size) for t in range(count)]).astype(np.float64)
    bound = 5 / np.sqrt(count)
    assert np.abs(drawn.mean(0)).max() < bound
    covariance = drawn.T @ drawn / count
    assert np.abs(covariance - np.eye(size)).max() < bound


def test_the_mean_of_many_directions_is_the_gradient() -> None:
    """Of a quadratic loss, in 20 dimensions: E[g z] = A w + b exactly, since third differences are nothing."""
    random = np.random.default_rng(0)
    root = random.standard_normal((20, 20))
    matrix, linear, w = root @ root.T / 20, random.standard_normal(20), random.standard_normal(20)

    def loss(at: Any) -> float:
        return float(0.5 * at @ matrix @ at + linear @ at)

    found, count = np.zeros(20), 10_000
    for index in range(count):
        z = numpy_signs(direction_bytes(5, (1, 0, index), 20), 20).astype(np.float64)
        found += (loss(w + 1e-3 * z) - loss(w - 1e-3 * z)) / 2e-3 * z
    gradient = matrix @ w + linear
    assert np.abs(found / count - gradient).max() < 5 * np.linalg.norm(gradient) / np.sqrt(count)


def test_one_client_and_one_direction_take_the_steps_of_mezo() -> None:
    """Numbers by hand: one weight, w = 2, loss w^2 x, x = 3: g = 2 w x z = 12 z, whatever epsilon is; w - .01 * 12."""

    class Line(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.tensor([2.0]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 0] * self.w**2

    data = Data((torch.full((4, 1), 3.0), torch.zeros(4)))
    task = LearningProblem(Line, lambda _: data, lambda outputs, _: outputs.mean())
    learner = Learner(task, ClientInfo("client-00", 0, 1))
    learner.prepare(0)
    given = {"perturbations": 1, "lr": 0.01, "epsilon": 0.125, "clip": 100}
    done = simulate(
        run_settings("seed_scalars", given, cohort=1, rounds=2, evaluate=False),
        learner.arrays(),
        {"client-00": Participant(client_of("seed_scalars", given), learner)},
    )
    assert done.model is not None
    # 2 - .12 = 1.88; the second slope is 2 * 1.88 * 3 = 11.28 and 1.88 - .1128 = 1.7672.
    found = expand_history(done.model, {"w": np.array([2.0], np.float32)})
    np.testing.assert_allclose(found["w"], [1.7672], rtol=1e-5)
    np.testing.assert_allclose(np.abs(done.state.arrays[STEPS]).reshape(-1), [0.12, 0.1128], rtol=1e-5)


def test_slopes_are_clipped_and_what_is_no_number_is_refused() -> None:
    clipped = simulated(run_of({"clip": 0.001}, 1, cohort=1, evaluate=False), FLEET, MODEL)
    assert np.abs(clipped.state.arrays[STEPS]).max() <= 0.02 / 8 * 0.001 * (1 + 1e-6)
    broken = {name: np.full_like(array, np.nan) for name, array in MODEL.items()}
    with pytest.raises(ValueError, match="holds a value that is not"):
        simulated(run_of({}, 1, cohort=1, evaluate=False), FLEET, broken)


def test_the_server_half_holds_nothing_of_the_models_size_but_its_start() -> None:
    model = {"w": np.zeros((2000, 1000), np.float32)}
    server = define("run", run_of({})).server
    state = server.start(model, 3)
    total = Total(1, 1, {"g": np.full((1, 8), 1 << 20, np.int64)}, {"g": 20}, {"g": 1})
    server.model(server.advance(state, total))
    tracemalloc.start()
    for _ in range(3):
        task = server.task(state)
        assert task is not None
        assert task.parts[START]["w"] is model["w"]
        state = server.advance(state, total)
        server.model(state)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A quarter of a MB is the buffer in which specs become bytes.
    assert peak < model["w"].nbytes / 20
    # A state of its own size besides: the start and the scalars.
    assert len(pack_state(state)) < model["w"].nbytes + 2000


@each_settings
def test_the_final_file_is_small_and_makes_the_model_that_was_measured(settings: dict[str, Any]) -> None:
    done = played(settings, [EVERYBODY] * 7)
    assert done.model is not None
    assert sum(array.nbytes for array in done.model.values()) < 600
    made = expand_history(done.model, MODEL)
    for name, learner in FLEET.items():
        learner.load(made)
        assert learner.evaluate()["loss"] == done.exchanges[-1].metrics[name]["loss"]
    other = {name: array + np.float32(1) for name, array in MODEL.items()}
    with pytest.raises(ValueError, match="not its numbers"):
        expand_history(done.model, other)


def test_a_history_of_a_window_never_costs_more_than_its_pool() -> None:
    run = run_of({"window": 16, "perturbations": 4}, 12, cohort=1, evaluate=False)
    start = sum(array.nbytes for array in MODEL.values())
    exchanges = simulated(run, FLEET, MODEL, contributors=[["client-00"]] * 12).exchanges
    assert exchanges[0].downlink_bytes < start + 200
    assert all(exchanged.downlink_bytes <= 4 * 16 + 16 for exchanged in exchanges[1:])


def test_it_learns() -> None:
    """Slowly, from a random start too: that directions, scalars and rates belong together."""
    fleet = learners(3, examples=300, hidden=(16,))
    model = first_model(fleet)
    done = simulated(run_of({"lr": 0.05, "perturbations": 16}, 40), fleet, model)
    losses = [exchanged.mean("loss") for exchanged in done.exchanges]
    assert losses[-1] < 0.9 * losses[0]
