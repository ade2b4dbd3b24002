"""The gradients of feddkd: against finite differences and closed forms, and what clients make of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.methods.fleet import client_of, first_model, learners
from thinwire.codecs import Array, Arrays, Chain, Spec
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.problem_file import LearningProblem
from thinwire.methods.arrays import under
from thinwire.methods.feddkd import FeddkdSettings
from thinwire.methods.feddkd.divergence import divergence, gradient
from thinwire.methods.values import Outcome, Task

FLEET = learners(3, split="dirichlet:1")
MODEL = first_model(FLEET)


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
    inputs, targets = learner.train.take(rows).pair

    def value() -> float:
        with torch.no_grad():
            outputs = learner.model(inputs)
            found = 0.0
            share = {"teacher": 0.0, "labels": 1.0, "mixture": 0.3}[target]
            if teacher is not None:
                q = torch.softmax(teacher / temperature, 1)
                s = torch.softmax(outputs / temperature, 1)
                found += (1 - share) * temperature**2 * float((q * (q.log() - s.log())).sum(1).mean())
            return found + share * float(learner.loss(outputs, targets))

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
