"""What client halves share in torch: samples, a model's arrays, a loop of local epochs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.optim.sgd import sgd

from thinwire.codecs import Array, Arrays, CodecError, Spec

from .interface import Learner, Task
from .local_training import LocalTraining

Penalty = Callable[[nn.Module], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Samples:
    """Examples on one device. `inputs`: (n, ...) float or integer tensor; `targets`: (n, ...) or None (a proxy set)."""

    inputs: torch.Tensor
    targets: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.inputs)

    def batches(self, size: int, seed: int | None = None) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        """One pass over all examples, at most `size` at a time; shuffled by `seed`, in order without one."""
        order = None if seed is None else torch.from_numpy(np.random.default_rng(seed).permutation(len(self)))
        for start in range(0, len(self), size):
            chosen: Any = slice(start, start + size)
            if order is not None:
                chosen = order[chosen].to(self.inputs.device)
            yield self.inputs[chosen], None if self.targets is None else self.targets[chosen]


def model_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """What travels of a model: parameters with requires_grad, then floating buffers, by name.

    Frozen parameters and integer buffers stay where they are. A tensor with two names travels once.
    """
    found: dict[str, torch.Tensor] = {name: p for name, p in model.named_parameters() if p.requires_grad}
    kept = model.state_dict(keep_vars=True)
    for name, buffer in model.named_buffers():
        if name in kept and buffer.is_floating_point():
            found[name] = buffer
    return found


def model_arrays(model: nn.Module) -> dict[str, Array]:
    """Copies of `model_tensors` as numpy arrays."""
    return {name: t.detach().cpu().numpy().copy() for name, t in model_tensors(model).items()}


def model_spec(model: nn.Module) -> Spec:
    """The spec of `model_arrays`. Raises: `bad-spec` (a dtype that cannot travel, bfloat16 for one)."""
    try:
        return Spec.of(model_arrays(model))
    except TypeError as error:
        raise CodecError("bad-spec", f"the model holds a dtype that cannot travel: {error}") from None


def load_arrays(model: nn.Module, arrays: Arrays) -> None:
    """Sets these tensors of the model. Raises: `does-not-fit`."""
    tensors = model_tensors(model)
    with torch.no_grad():
        for name, array in arrays.items():
            tensor = tensors.get(name)
            if tensor is None or tuple(tensor.shape) != array.shape:
                raise CodecError("does-not-fit", f"the model has no tensor {name!r} of shape {array.shape}")
            tensor.copy_(torch.from_numpy(np.array(array)))


def laid_out(tensor: torch.Tensor) -> torch.Tensor:
    """The same numbers with the channels of a kernel, (out, in, h, w), last in memory; other tensors as they are.

    Convolutions and pooling are faster so on a CPU, with the same results to rounding.
    """
    # Kernels of three dimensions have another such format, and nothing to gain from it.
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.dim() == 4 else tensor


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
    """The model's arrays minus those received, in their own dtypes."""
    return {name: array - received[name] for name, array in learner.arrays().items()}
