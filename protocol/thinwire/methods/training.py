"""Local training: an optimiser, a loop of epochs, what may be added to the loss, and the change that comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn
from torch.optim.sgd import sgd

from thinwire.codecs import Array, Arrays

from .arrays import difference, is_buffer, own_name
from .learner import Learner
from .samples import Samples
from .settings import LocalTraining
from .values import Task

Penalty = Callable[[nn.Module], torch.Tensor]


class Optimizer(Protocol):
    """What a loop of training needs of one; those of `torch.optim` are such."""

    def zero_grad(self) -> None: ...

    def step(self) -> Any: ...


class Descent:
    """SGD with momentum and weight decay: `torch.optim.SGD` to the bit, by its functional form.

    Making an object of torch's own loads a compiler, which costs every client a second and 76 MB.
    """

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float, weight_decay: float) -> None:
        self._parameters = parameters
        self._lr, self._momentum, self._weight_decay = lr, momentum, weight_decay
        self._buffers: list[torch.Tensor | None] = [None] * len(parameters)

    def zero_grad(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Parameters without a gradient stay as they are."""
        used = [index for index, parameter in enumerate(self._parameters) if parameter.grad is not None]
        trained: list[torch.Tensor] = [self._parameters[index] for index in used]
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        buffers = [self._buffers[index] for index in used]
        sgd(
            trained, gradients, buffers, lr=self._lr, momentum=self._momentum, weight_decay=self._weight_decay,
            dampening=0.0, nesterov=False, maximize=False,
        )  # fmt: skip
        for index, buffer in zip(used, buffers, strict=True):
            self._buffers[index] = buffer


@dataclass(frozen=True, slots=True)
class Sgd:
    """Settings of a local optimiser: SGD with momentum and weight decay, its state fresh each time."""

    lr: float
    momentum: float = 0.9
    weight_decay: float = 0.0

    def build(self, model: nn.Module) -> Descent:
        return Descent([p for p in model.parameters() if p.requires_grad], self.lr, self.momentum, self.weight_decay)


def train_epochs(
    model: nn.Module,
    samples: Samples,
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    optimizer: Optimizer,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    penalty: Penalty | None = None,
) -> float:
    """Trains in place; returns the mean loss per example (penalty included) of the last epoch.

    `penalty(model)` is added to the loss of every batch. Shuffling depends on `seed` alone; so does dropout.
    """
    torch.manual_seed(seed)
    model.train()
    summed = torch.zeros((), device=samples.inputs.device)
    for epoch in range(epochs):
        summed.zero_()
        for inputs, targets in samples.batches(batch_size, seed + epoch):
            assert targets is not None  # noqa: S101
            optimizer.zero_grad()
            value = loss(model(inputs), targets)
            if penalty is not None:
                value = value + penalty(model)
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            summed += value.detach() * len(inputs)
    return float(summed) / max(len(samples), 1)


def proximal(model: nn.Module, mu: float) -> Penalty | None:
    """mu/2 ||w - w0||^2 over what is trained, w0 being the model's present parameters; None for mu = 0."""
    if mu == 0:
        return None
    anchors = [(parameter, parameter.detach().clone()) for parameter in model.parameters() if parameter.requires_grad]

    def penalty(_: nn.Module) -> torch.Tensor:
        return 0.5 * mu * torch.stack([(now - anchor).square().sum() for now, anchor in anchors]).sum()

    return penalty


def train_locally(learner: Learner, settings: LocalTraining, task: Task, penalty: Penalty | None = None) -> float:
    """Trains the learner's model as the settings say, in place; the mean loss of the last epoch."""
    lr = float(task.options.get("lr", settings.lr))
    optimiser = Sgd(lr, settings.momentum, settings.weight_decay).build(learner.model)
    return train_epochs(
        learner.model,
        learner.train,
        learner.loss,
        optimiser,
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        seed=learner.seed,
        penalty=penalty,
    )


def change(learner: Learner, received: Arrays) -> dict[str, Array]:
    """The model's arrays minus those received, in their own dtypes, by the names they came under."""
    arrays, own = learner.arrays(), {own_name(name): name for name in received}
    return {
        own[name]: difference(array, received[own[name]]) if is_buffer(own[name]) else array - received[own[name]]
        for name, array in arrays.items()
    }
