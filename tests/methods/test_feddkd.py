"""Laws of decentralized knowledge distillation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.methods.fleet import client_of, first_model, learners, run_settings, simulated
from thinwire.codecs import Array, Arrays, Chain, Spec
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.problem_file import LearningProblem
from thinwire.methods.checkpoint import pack_state
from thinwire.methods.feddkd import FeddkdSettings
from thinwire.methods.feddkd.divergence import divergence, gradient
from thinwire.methods.interface import Contribution, Outcome, State, Task
from thinwire.methods.local_training import under
from thinwire.methods.simulation import build_server

FLEET = learners(3, split="dirichlet:1")
MODEL = first_model(FLEET)
PARAMETERS = sum(array.size for array in MODEL.values())


class Probe(nn.Module):
    """Small, in float64, with dropout and running statistics."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6, dtype=torch.float64)
        self.norm = nn.BatchNorm1d(6, dtype=torch.float64)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(6, outputs, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.last(self.drop(torch.tanh(self.norm(self.first(x)))))
        return hidden


def probe_learner() -> Learner:
    def data(client: ClientInfo) -> Data:
        random = np.random.default_rng(1)
        inputs = torch.from_numpy(random.standard_normal((30, 4)))
        return Data(train=(inputs, torch.from_numpy(random.integers(0, 3, 30))))

    return Learner(LearningProblem(Probe, data, nn.CrossEntropyLoss()), ClientInfo())


def settings_of(**given: Any) -> FeddkdSettings:
    return FeddkdSettings.model_validate(given)


def trained(learner: Learner, model: Arrays, **given: Any) -> Outcome:
    """The outcome of a training exchange under plain chains; the learner's model is then the teacher."""
    reply = Spec.of(model)
    learner.prepare(1, reply=reply, reference=model)
    return client_of("feddkd", given).perform(Task(1, 0, "train", {"model": model}, reply), {}, learner)


def slope(learner: Learner, memory: Arrays, size: int, step: int = 0, **given: Any) -> dict[str, Array]:
    learner.model.eval()
    return gradient(learner, settings_of(**given), memory, size=size, step=step)


def test_without_steps_it_is_fedavg_bit_for_bit() -> None:
    for chains in ("default", "plain"):
        given = {"server_optimizer": "momentum", "server_momentum": 0.5}
        run = run_settings("feddkd", {"distil_steps": 0, **given}, rounds=3, chains=chains)
        plain = run_settings("fedavg", given, rounds=3, chains=chains)
        assert pack_state(simulated(run, FLEET, MODEL).state) == pack_state(simulated(plain, FLEET, MODEL).state)


def test_a_vanishing_rate_gives_fedavg() -> None:
    run = run_settings("feddkd", {"distil_lr": 1e-30, "distil_optimizer": "sgd"}, rounds=2, chains="plain")
    expected = simulated(run_settings("fedavg", rounds=2, chains="plain"), FLEET, MODEL).model
    found = simulated(run, FLEET, MODEL).model
    assert expected is not None
    assert found is not None
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-25)


def test_one_client_alone_has_nothing_to_learn_from_itself() -> None:
    """To float rounding: the student is w + (w_k - w). The rate is so large that a real gradient would show."""
    fleet = {"client-01": FLEET["client-01"]}
    given = {"distil_lr": 10.0, "distil_optimizer": "sgd", "distil_steps": 2}
    run = run_settings("feddkd", given, rounds=1, cohort=1, chains="plain")
    expected = simulated(run_settings("fedavg", rounds=1, cohort=1, chains="plain"), fleet, MODEL).model
    found = simulated(run, fleet, MODEL).model
    assert expected is not None
    assert found is not None
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=1e-5)
    labels = simulated(run_settings("feddkd", {**given, "distil_target": "labels"}, rounds=1, cohort=1), fleet, MODEL)
    assert labels.model is not None
    assert max(np.abs(labels.model[name] - expected[name]).max() for name in expected) > 1e-2


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_equal_models_have_a_zero_gradient(temperature: float) -> None:
    """Bit for bit up to the rounding of a softmax that sums to one, dropout and running statistics notwithstanding."""
    learner = probe_learner()
    learner.prepare(0)
    memory = trained(learner, learner.arrays(), distil_temperature=temperature).memory_if_accepted
    found = slope(learner, memory, 30, distil_temperature=temperature)
    assert max(np.abs(array).max() for array in found.values()) < 1e-14
    with torch.no_grad():
        for parameter in learner.model.parameters():
            parameter += 0.1
    moved = slope(learner, memory, 30, distil_temperature=temperature)
    assert max(np.abs(array).max() for array in moved.values()) > 1e-4
    assert not moved["norm.running_mean"].any()


@pytest.mark.parametrize(
    ("target", "temperature"), [("teacher", 1.0), ("teacher", 3.0), ("labels", 1.0), ("mixture", 2.0)]
)
def test_finite_differences_confirm_the_gradient(target: str, temperature: float) -> None:
    learner = probe_learner()
    learner.prepare(0)
    given = {"distil_target": target, "distil_temperature": temperature, "distil_label_share": 0.3, "epochs": 5}
    start = learner.arrays()
    memory = trained(learner, start, **given).memory_if_accepted
    teacher = torch.from_numpy(memory["teacher"]) if target != "labels" else None
    learner.load(start)
    rows = torch.from_numpy(memory["chosen"])
    inputs, targets = learner.train.inputs[rows], learner.train.targets
    assert targets is not None

    def value() -> float:
        with torch.no_grad():
            outputs = learner.model(inputs)
            found = 0.0
            share = {"teacher": 0.0, "labels": 1.0, "mixture": 0.3}[target]
            if teacher is not None:
                q = torch.softmax(teacher / temperature, 1)
                s = torch.softmax(outputs / temperature, 1)
                found += (1 - share) * temperature**2 * float((q * (q.log() - s.log())).sum(1).mean())
            return found + share * float(learner.loss(outputs, targets[rows]))

    found = slope(learner, memory, 30, **given)
    for name, parameter in learner.model.named_parameters():
        for index in [0, parameter.numel() // 2, parameter.numel() - 1]:
            flat = parameter.data.view(-1)
            kept = float(flat[index])
            flat[index] = kept + 1e-6
            above = value()
            flat[index] = kept - 1e-6
            below = value()
            flat[index] = kept
            assert found[name].reshape(-1)[index] == pytest.approx((above - below) / 2e-6, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_by_the_scores_it_is_t_times_the_difference(temperature: float) -> None:
    random = torch.Generator().manual_seed(0)
    student = torch.randn(5, 4, dtype=torch.float64, generator=random, requires_grad=True)
    teacher = torch.randn(5, 4, dtype=torch.float64, generator=random)
    divergence(student, teacher, temperature).backward()  # type: ignore[no-untyped-call]
    expected = temperature * (torch.softmax(student / temperature, 1) - torch.softmax(teacher / temperature, 1)) / 5
    assert student.grad is not None
    torch.testing.assert_close(student.grad, expected.detach(), rtol=1e-9, atol=1e-12)


def test_one_score_is_that_of_yes_against_no() -> None:
    student = torch.tensor([[0.3], [-1.0]], dtype=torch.float64)
    teacher = torch.tensor([[1.3], [0.5]], dtype=torch.float64)
    p, q = torch.sigmoid(teacher), torch.sigmoid(student)
    expected = (p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()).mean()
    torch.testing.assert_close(divergence(student, teacher, 1.0), expected)


def test_the_mean_of_the_gradients_leads_to_the_average_of_the_maps() -> None:
    """Where the teachers see the same examples: sum p_k KL(q_k || s) = KL(mean q || s) + const."""
    random = torch.Generator().manual_seed(0)
    student = torch.randn(5, 4, dtype=torch.float64, generator=random, requires_grad=True)
    teachers = torch.randn(3, 5, 4, dtype=torch.float64, generator=random)
    shares = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    sum(share * divergence(student, one, 1.0) for share, one in zip(shares, teachers, strict=True)).backward()  # type: ignore[union-attr]
    of_teachers = student.grad
    average = (shares[:, None, None] * torch.softmax(teachers, 2)).sum(0)
    student.grad = None
    divergence(student, average.log(), 1.0).backward()  # type: ignore[no-untyped-call]
    assert of_teachers is not None
    assert student.grad is not None
    torch.testing.assert_close(of_teachers, student.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 3])
def test_plain_chains_cost_two_ways_of_every_exchange(steps: int) -> None:
    """2 (1 + M) P b per client and round, and one byte of header a payload."""
    run = run_settings("feddkd", {"distil_steps": steps}, rounds=1, chains="plain", evaluate=False)
    exchanges = simulated(run, FLEET, MODEL).exchanges
    assert [(e.kind, e.step) for e in exchanges] == [("train", 0), *[("distil", 1 + m) for m in range(steps)]]
    for exchanged in exchanges:
        assert exchanged.uplink_bytes == exchanged.downlink_bytes == 3 * (4 * PARAMETERS + 1)


def test_a_coded_step_costs_a_fraction_of_a_plain_exchange() -> None:
    plain = 2 * 3 * 4 * PARAMETERS
    costs = {}
    for bits in (8, 4):
        run = run_settings("feddkd", {"distil_bits": bits, "distil_steps": 1}, rounds=1, evaluate=False)
        exchanges = simulated(run, FLEET, MODEL).exchanges
        costs[bits] = max(e.uplink_bytes + e.downlink_bytes for e in exchanges if e.kind == "distil")
    assert costs[8] < plain / 4
    assert costs[4] < costs[8] / 1.8


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"distil_steps": 2, "distil_every": 2}, [1, 3, 1, 3]),
        ({"distil_steps": 2, "distil_rounds": "last"}, [1, 1, 1, 3]),
        ({"distil_steps": 5, "local_distil_steps": 2}, [4, 4, 4, 4]),
    ],
)
def test_which_rounds_distil_and_in_how_many_exchanges(given: dict[str, Any], expected: list[int]) -> None:
    run = run_settings("feddkd", given, rounds=4, evaluate=False, chains="plain")
    exchanges = simulated(run, FLEET, MODEL).exchanges
    assert [sum(e.round == round_ for e in exchanges) for round_ in (1, 2, 3, 4)] == expected


def states(given: dict[str, Any]) -> tuple[Any, State]:
    """A server after the training exchange of its first round."""
    server = build_server(run_settings("feddkd", given))
    state = server.start({"w": np.zeros(2, np.float32), "n.running_var": np.ones(2, np.float32)}, 0)
    update = {"w": np.full(2, 1, np.float32), "n.running_var": np.full(2, 0.5, np.float32)}
    return server, server.advance(state, server.reducer.add(server.reducer.zero(), Contribution(0, "c", 1, update)))


def stepped(server: Any, state: State, value: float) -> State:
    answer = Contribution(0, "c", 1, {"w": np.array([value, -value], np.float32)})
    following: State = server.advance(state, server.reducer.add(server.reducer.zero(), answer))
    return following


def test_the_moments_last_for_the_steps_of_a_round_and_no_longer() -> None:
    server, state = states({"distil_steps": 2, "distil_lr": 0.1})
    assert not under("distil", state.arrays)
    first = stepped(server, state, 3.0)
    assert set(under("distil", first.arrays)) == {"first/w", "second/w"}
    np.testing.assert_allclose(first.arrays["model/w"], [0.9, 1.1], rtol=1e-6)
    second = stepped(server, first, -3.0)
    assert (second.round, second.step) == (2, 0)
    assert not under("distil", second.arrays)
    # Adam with memory: m = 0.9 * 0.1 * 3 - 0.1 * 3 over 1 - 0.81, not a fresh step of 0.1.
    np.testing.assert_allclose(second.arrays["model/w"][0], 0.9 + 0.1 * 0.03 / 0.19 / 3, rtol=1e-5)


def test_a_step_is_weighted_over_those_who_answered_it() -> None:
    """Trained by two with 1 and 3 examples; the step is answered by one, then by both."""
    server = build_server(run_settings("feddkd", {"distil_optimizer": "sgd", "distil_lr": 0.5}))
    state = server.start({"w": np.zeros(1, np.float32)}, 0)

    def after(answers: list[tuple[int, float]]) -> State:
        total = server.reducer.zero()
        for slot, (examples, value) in enumerate(answers):
            answer = Contribution(slot, f"c{slot}", examples, {"w": np.array([value], np.float32)})
            total = server.reducer.add(total, answer)
        return server.advance(state, total)

    state = after([(1, 4.0), (3, 8.0)])
    np.testing.assert_allclose(state.arrays["model/w"], [7.0])
    state = after([(3, 2.0)])
    np.testing.assert_allclose(state.arrays["model/w"], [6.0])
    state = after([(1, 2.0), (3, -2.0)])
    np.testing.assert_allclose(state.arrays["model/w"], [6.5])


def test_running_statistics_are_no_part_of_a_step() -> None:
    server, state = states({})
    task = server.task(state)
    assert (task.kind, task.cohort, list(task.reply)) == ("distil", "same", ["w"])
    np.testing.assert_array_equal(task.parts["model"]["n.running_var"], [1.5, 1.5])
    np.testing.assert_array_equal(stepped(server, state, 1.0).arrays["model/n.running_var"], [1.5, 1.5])


def test_a_step_without_its_quorum_ends_the_round_with_the_student_so_far() -> None:
    server, state = states({"distil_steps": 3})
    assert server.give_up(server.start({"w": np.zeros(2, np.float32)}, 0)) is None
    student = stepped(server, state, 1.0)
    after = server.give_up(student)
    assert (after.round, after.step) == (2, 0)
    assert not under("distil", after.arrays)
    np.testing.assert_array_equal(after.arrays["model/w"], student.arrays["model/w"])


def test_clients_may_drop_out_between_the_steps() -> None:
    run = run_settings("feddkd", {"distil_steps": 3}, rounds=2, quorum=2, evaluate=False, chains="plain")
    three = sorted(FLEET)
    sets = [three, three, three[1:], three[2:], three, three, three, three]
    exchanges = simulated(run, FLEET, MODEL, contributors=sets).exchanges
    assert [(e.round, e.step, e.given_up) for e in exchanges] == [
        (1, 0, False), (1, 1, False), (1, 2, False), (1, 3, True),
        (2, 0, False), (2, 1, False), (2, 2, False), (2, 3, False),
    ]  # fmt: skip


def test_each_step_has_examples_of_its_own_until_all_were_used() -> None:
    learner = FLEET["client-00"]
    count = len(learner.train)
    size = count // 3
    memory = trained(learner, MODEL, distil_samples=size, distil_steps=5).memory_if_accepted
    chosen = memory["chosen"]
    assert len(set(chosen.tolist())) == len(chosen) == 3 * size
    assert memory["teacher"].shape == (3 * size, 10)
    learner.load(MODEL)
    slopes = [slope(learner, memory, size, step)["1.0.weight"] for step in range(5)]
    np.testing.assert_array_equal(slopes[0], slopes[3])
    np.testing.assert_array_equal(slopes[1], slopes[4])
    assert not np.array_equal(slopes[0], slopes[1])
    whole = trained(learner, MODEL, distil_samples="all").memory_if_accepted
    assert sorted(whole["chosen"].tolist()) == list(range(count))


def test_what_the_chain_loses_of_a_gradient_comes_with_the_next() -> None:
    learner, chain = FLEET["client-01"], Chain.parse("cast(f16)")
    memory: Arrays = trained(learner, MODEL).memory_if_accepted
    sent = {name: np.zeros(array.shape) for name, array in MODEL.items()}
    exact = {name: np.zeros(array.shape) for name, array in MODEL.items()}
    task = Task(1, 1, "distil", {"model": MODEL}, Spec.of(MODEL))
    for step in (1, 2, 3):
        learner.prepare(step, reply=task.reply, uplink=chain, reference=MODEL)
        outcome = client_of("feddkd").perform(task, memory, learner)
        memory = outcome.memory_if_accepted
        for name, array in learner.decoded(outcome.answer.arrays).items():
            sent[name] += array
        learner.load(MODEL)
        for name, array in slope(learner, memory, len(memory["chosen"])).items():
            exact[name] += array
    residual = under("residual", memory)
    assert residual
    for name in MODEL:
        left = exact[name] - sent[name]
        np.testing.assert_allclose(left, residual.get(name, np.zeros_like(left)), rtol=0, atol=1e-6)
        assert np.abs(left).max() <= 2**-11 * np.abs(exact[name]).max() + 1e-6


def test_local_steps_are_sgd_from_the_student() -> None:
    learner = FLEET["client-02"]
    size = 10
    given = {"local_distil_steps": 2, "local_distil_lr": 0.3, "distil_samples": size, "distil_steps": 4}
    memory = trained(learner, MODEL, **given).memory_if_accepted
    learner.load(MODEL)
    expected = {name: array.copy() for name, array in MODEL.items()}
    for step in (2, 3):
        for name, array in slope(learner, memory, size, step, **given).items():
            expected[name] -= np.float32(0.3) * array
        learner.load(expected)
    task = Task(1, 2, "distil", {"model": MODEL}, Spec.of(MODEL))
    learner.prepare(9, reply=task.reply, reference=MODEL)
    answer = client_of("feddkd", given).perform(task, memory, learner).answer.arrays
    for name, array in answer.items():
        np.testing.assert_allclose(MODEL[name] - array, expected[name], rtol=0, atol=1e-6)


def test_it_helps_where_each_client_knows_two_classes() -> None:
    fleet = learners(5, examples=500, split="classes:2")
    model = first_model(fleet)
    found = simulated(run_settings("feddkd", rounds=5, cohort=5, chains="plain"), fleet, model)
    averaged = simulated(run_settings("fedavg", rounds=5, cohort=5, chains="plain"), fleet, model)
    assert found.exchanges[-1].mean("accuracy") > averaged.exchanges[-1].mean("accuracy") + 0.1
