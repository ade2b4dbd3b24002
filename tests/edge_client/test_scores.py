"""Accuracy is shown where the loss shows what is right, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional

from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.problem_file import LearningProblem
from thinwire.edge_client.scores import Scores

N = 40
TAGS = torch.randint(0, 5, (N, 7), generator=torch.Generator().manual_seed(1))
SQUARE = torch.randint(0, 5, (N, 5), generator=torch.Generator().manual_seed(2))
CLASSES = TAGS[:, 0]
BINARY = (CLASSES > 1).long()


def _right(targets: torch.Tensor, dim: int, classes: int = 5, wrong: int = 0) -> torch.Tensor:
    """Scores that are right, but for the first `wrong` examples; not certain."""
    chosen = targets.clone()
    chosen[:wrong] = (chosen[:wrong] + 1) % classes
    return functional.one_hot(chosen, classes).movedim(-1, dim).float()


def _flat(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def _turned(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(outputs.transpose(1, 2), targets)


def _sign(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.binary_cross_entropy_with_logits(outputs.squeeze(1), targets.float())


ONE_SCORE = torch.where(BINARY == 1, 1.0, -1.0)[:, None] * torch.cat([-torch.ones(10), torch.ones(30)])[:, None]


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "accuracy"),
    [
        (nn.CrossEntropyLoss(), _right(CLASSES, 1, wrong=10), CLASSES, 0.75),
        (nn.CrossEntropyLoss(label_smoothing=0.1), _right(CLASSES, 1, wrong=10), CLASSES, 0.75),
        (functional.cross_entropy, _right(CLASSES, 1, wrong=10), CLASSES, 0.75),
        (functional.nll_loss, _right(CLASSES, 1, wrong=10) - 1, CLASSES, 0.75),
        (nn.CrossEntropyLoss(), _right(SQUARE, 1, wrong=10), SQUARE, 0.75),
        (_flat, _right(TAGS, 2, wrong=10), TAGS, 0.75),
        (_flat, _right(SQUARE, 2, wrong=10), SQUARE, 0.75),
        (_turned, _right(SQUARE, 2, wrong=10), SQUARE, 0.75),
        (_sign, ONE_SCORE, BINARY, 0.75),
        (nn.BCEWithLogitsLoss(), ONE_SCORE, BINARY[:, None].float(), 0.75),
        (nn.BCEWithLogitsLoss(), torch.ones(N, 4), torch.ones(N, 4), None),
        (nn.MSELoss(), torch.ones(N, 1), BINARY[:, None].float(), None),
        (nn.MSELoss(), torch.ones(N, 5), torch.ones(N, 5), None),
        (lambda outputs, targets: outputs[:, 0].mean(), _right(CLASSES, 1), CLASSES, None),
        (lambda outputs, targets: functional.cross_entropy(outputs[0], targets), (torch.ones(N, 5), 1), CLASSES, None),
        (lambda outputs, targets: outputs["loss"], {"loss": torch.ones(())}, CLASSES, None),
    ],
)
def test_accuracy_is_claimed_where_it_is_meant(
    loss: Callable[..., torch.Tensor], outputs: torch.Tensor, targets: torch.Tensor, accuracy: float | None
) -> None:
    found = Scores(loss).of(outputs, targets)
    assert found.get("accuracy", (None,))[0] == accuracy


@pytest.mark.parametrize("ignored", [-100, 255, 0])
def test_what_the_loss_ignores_is_neither_right_nor_wrong(ignored: int) -> None:
    targets = TAGS.clone()
    outputs = _right(targets, 1)
    targets[:, 3:] = ignored
    loss = nn.CrossEntropyLoss(ignore_index=ignored)
    ((value, weight),) = Scores(loss).of(outputs, targets).values()
    assert value == 1
    assert weight == int((targets != ignored).sum())
    assert Scores(loss).of(outputs, torch.full_like(targets, ignored)) == {}


def test_batches_weigh_as_much_as_they_hold() -> None:
    targets = torch.full((1024, 2), -100)
    targets[0, 0] = targets[600] = 1
    data = Data((torch.zeros(2, 3), TAGS[:2, :2]), (torch.zeros(1024, 3), targets))

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scores = nn.Parameter(torch.tensor([[[0.0, 0.0], [1.0, -1.0]]]))

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.scores.expand(len(inputs), 2, 2)

    problem = LearningProblem(Fixed, lambda _: data, nn.CrossEntropyLoss())
    # Three targets count; of the second batch's two, one is right.
    assert Learner(problem, ClientInfo()).evaluate()["accuracy"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("output", ["tuple", "mapping"])
def test_a_model_may_return_what_its_loss_takes(output: str) -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 5)

        def forward(self, inputs: torch.Tensor) -> object:
            scores = self.layer(inputs)
            return (scores, inputs) if output == "tuple" else {"scores": scores}

    def loss(outputs: object, targets: torch.Tensor) -> torch.Tensor:
        scores = outputs[0] if isinstance(outputs, tuple) else outputs["scores"]  # type: ignore[index]
        return functional.cross_entropy(scores, targets)

    data = Data((torch.rand(N, 4), CLASSES), (torch.rand(N, 4), CLASSES))
    learner = Learner(LearningProblem(Both, lambda _: data, loss), ClientInfo())
    assert set(learner.evaluate()) == {"loss", "examples"}
