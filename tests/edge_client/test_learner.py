"""Laws of the learner: the same task gives the same result, and a task file's author sees their own mistakes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from tests.methods.fleet import train
from thinwire.codecs import Chain, Spec
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.built_in import find_problem
from thinwire.edge_client.problems.problem_file import LearningProblem, ProblemFileError, load_problem_file
from thinwire.methods.arrays import same_bits


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def _digits(name: str = "client-00", index: int = 0) -> Learner:
    return Learner(find_problem("digits"), ClientInfo(name, index, 8, 0, "dirichlet:0.3"))


def _train(learner: Learner, seed: int) -> dict[str, np.ndarray]:
    learner.prepare(seed)
    train(learner, 0.1, batch_size=32)
    return learner.arrays()


def test_the_same_arrays_and_seed_train_to_the_same_bits() -> None:
    first, second = _digits(), _digits()
    start = first.arrays()
    second.load(start)
    trained = _train(first, 7)
    assert same_bits(_train(second, 7), trained)
    second.load(start)
    assert not same_bits(_train(second, 8), trained)


def test_all_clients_begin_with_one_model() -> None:
    assert same_bits(_digits().arrays(), _digits("client-05", 5).arrays())


def test_what_is_loaded_is_what_there_is_and_copies_stay_as_they_are() -> None:
    learner = _digits()
    doubled = {name: 2 * array for name, array in learner.arrays().items()}
    learner.load(doubled)
    kept = learner.arrays()
    learner.load({name: 0 * array for name, array in kept.items()})
    assert same_bits(kept, doubled)
    assert list(learner.spec) == list(kept)


def test_decoded_is_what_comes_out_of_the_uplink_chain() -> None:
    learner = _digits()
    arrays = {"a": np.linspace(0, 1, 50, dtype=np.float32)}
    learner.prepare(1, reply=Spec.of(arrays), uplink=Chain.parse("cast(f16), zstd"))
    found = learner.decoded(arrays)["a"]
    assert np.array_equal(found, arrays["a"].astype(np.float16).astype(np.float32))


def test_consent_is_given_or_not() -> None:
    learner = Learner(find_problem("digits"), ClientInfo(clients=8), allow=["sample-knowledge"])
    assert learner.allows("sample-knowledge")
    assert not _digits().allows("sample-knowledge")


def test_evaluation_counts_right_answers_and_leaves_the_mode() -> None:
    inputs = torch.eye(4).repeat(200, 1)
    targets = inputs.argmax(1)
    targets[:200] = (targets[:200] + 1) % 4
    task = LearningProblem(nn.Identity, lambda _: Data((inputs, targets), (inputs, targets)), nn.CrossEntropyLoss())
    learner = Learner(task, ClientInfo())
    learner.model.train()
    metrics = learner.evaluate()
    assert metrics["accuracy"] == pytest.approx(0.75)
    assert metrics["examples"] == 800
    assert metrics["loss"] == pytest.approx(float(learner.loss(inputs, targets)), rel=1e-6)
    assert learner.model.training
    assert learner.evaluate(samples=learner.proxy) == metrics
    assert set(learner.evaluate(nn.Linear(4, 4))) == {"loss", "accuracy", "examples"}


def test_outputs_that_are_no_classes_have_a_loss_only() -> None:
    data = Data((torch.rand(6, 3), torch.rand(6, 3)), (torch.rand(6, 3), torch.rand(6, 3)))
    learner = Learner(LearningProblem(lambda: nn.Linear(3, 3), lambda _: data, nn.MSELoss()), ClientInfo())
    assert set(learner.evaluate()) == {"loss", "examples"}


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_however_a_model_lies_in_memory_its_arrays_travel_in_their_order(dimensions: int) -> None:
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    inputs = torch.randn(2, 3, *[5] * dimensions, generator=torch.Generator().manual_seed(1))
    data = Data((inputs, torch.zeros(2, 4, *[3] * dimensions)))
    learner = Learner(LearningProblem(lambda: kind(3, 4, 3), lambda _: data, nn.MSELoss()), ClientInfo())
    plain = kind(3, 4, 3)
    plain.load_state_dict({name: torch.from_numpy(array) for name, array in learner.arrays().items()})
    assert all(array.flags.c_contiguous for array in learner.arrays().values())
    assert torch.allclose(plain(inputs), learner.model(inputs), atol=1e-6)


def test_counters_that_never_travel_leave_no_trace() -> None:
    data = Data((torch.rand(16, 3), torch.arange(16) % 2))
    task = LearningProblem(
        lambda: nn.Sequential(nn.BatchNorm1d(3, momentum=None), nn.Linear(3, 2)), lambda _: data, nn.CrossEntropyLoss()
    )
    learner = Learner(task, ClientInfo())
    start = learner.arrays()
    assert "0.running_mean" in start
    trained = _train(learner, 3)
    learner.load(start)
    assert same_bits(_train(learner, 3), trained)


class _Squares(Dataset[tuple[torch.Tensor, int]]):
    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((2,), float(index)), index * index


def test_datasets_are_read_by_number() -> None:
    pairs = TensorDataset(torch.rand(4, 2), torch.arange(4))
    learner = Learner(
        LearningProblem(lambda: nn.Linear(2, 2), lambda _: Data(_Squares(), pairs), nn.MSELoss()), ClientInfo()
    )
    assert learner.train.few(9).inputs.shape == (5, 2)
    assert learner.train.targets().tolist() == [0, 1, 4, 9, 16]
    assert learner.evaluation is not None
    assert torch.equal(learner.evaluation.inputs, pairs.tensors[0])


TASK = """
import torch

def model():
    return torch.nn.Linear(2, 2)

def data(client):
    inputs = torch.full((4, 2), float(client.index))
    return {returned}
"""


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_task_file_of_ones_own(tmp_path: Path) -> None:
    text = "from thinwire.edge_client.data import Data\n" + TASK.format(
        returned="Data((inputs, torch.tensor([0, 1, 0, 1])))"
    )
    task = load_problem_file(
        _write(tmp_path / "task.py", text + "\nloss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)\n")
    )
    learner = Learner(task, ClientInfo("c", 3, 8))
    assert learner.train.inputs[0, 0] == 3
    assert isinstance(task.loss, nn.CrossEntropyLoss)
    assert task.loss.label_smoothing == 0.1


def test_an_error_in_a_task_file_shows_its_own_traceback_and_nothing_else(tmp_path: Path) -> None:
    path = _write(tmp_path / "task.py", TASK.format(returned="inputs / missing_name"))
    with pytest.raises(ProblemFileError) as caught:
        load_problem_file(path).data(ClientInfo())
    shown = str(caught.value)
    assert "missing_name" in shown
    assert shown.count("File ") == 1
    assert f'File "{path}", line 9, in data' in shown


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("def model(: pass", "SyntaxError"),
        ("import absent_package", "absent_package"),
        ("x = 1", r"no function model\(\)"),
        ("def model(): pass", r"no function data\(\)"),
    ],
)
def test_a_file_that_is_no_task_is_told_why(text: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(ProblemFileError, match=what):
        load_problem_file(_write(tmp_path / "task.py", text))


@pytest.mark.parametrize(
    ("model", "data", "what"),
    [
        (lambda: 3, Data((torch.rand(2, 1), torch.rand(2))), "not a torch.nn.Module"),
        (lambda: nn.Linear(1, 1), Data((torch.rand(2, 1),)), "no training examples"),
        (lambda: nn.Linear(1, 1), Data((torch.rand(0, 1), torch.rand(0))), "no training examples"),
        (lambda: nn.Linear(1, 1), Data((torch.rand(2, 1), torch.rand(3))), "not of one length"),
        (lambda: nn.Linear(1, 1), Data(3), "data\\(\\).train"),  # type: ignore[arg-type]
    ],
)
def test_what_a_task_returns_is_checked(model: object, data: Data, what: str) -> None:
    with pytest.raises(ProblemFileError, match=what):
        Learner(LearningProblem(model, lambda _: data, nn.MSELoss()), ClientInfo())  # type: ignore[arg-type]


def test_eight_clients_learn_the_digits_in_ten_rounds() -> None:
    learners = [_digits(f"client-{index:02}", index) for index in range(8)]
    weights = learners[0].arrays()
    for round_ in range(10):
        answers = []
        for learner in learners:
            learner.load(weights)
            learner.prepare(round_)
            train(learner, 0.1, epochs=2, batch_size=32)
            answers.append((len(learner.train), learner.arrays()))
        whole = sum(examples for examples, _ in answers)
        weights = {name: sum(n / whole * arrays[name] for n, arrays in answers) for name in weights}
    right = examples = 0.0
    for learner in learners:
        learner.load(weights)
        metrics = learner.evaluate()
        right += metrics["accuracy"] * metrics["examples"]
        examples += metrics["examples"]
    assert right / examples > 0.9
