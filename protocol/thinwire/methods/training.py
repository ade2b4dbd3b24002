"""Local training: a loop of epochs, what may be added to the loss, and the change that comes of it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Final

import torch
from torch import nn

from thinwire.codecs import Array, Arrays

from .arrays import difference, headed, is_buffer, own_name, under
from .learner import Learner
from .local_optimizers import Optimizer
from .progress import DIVERGING, NO_NUMBER
from .settings import LocalTraining
from .tensors import model_tensors, rounded
from .values import Task
from .work import Penalty, Work

OPTIMIZER: Final = "optimizer"
"""Heads what a client's memory keeps of its optimiser."""
_FIRST_SCALE: Final = 2.0**16
_GROWS_AFTER: Final = 2000


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a task's training beside the model. `loss`: the mean of the last epoch, penalty included;
    `metrics`: what the loop reported, and whether it diverged; `memory`: `optimizer/...` where the run keeps it.
    """

    loss: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    memory: Arrays = field(default_factory=dict)


def train_locally(
    learner: Learner,
    settings: LocalTraining,
    task: Task,
    *,
    penalty: Penalty | None = None,
    model: nn.Module | None = None,
    memory: Arrays | None = None,
    measured: Mapping[str, float] | None = None,
) -> Trained:
    """Trains the learner's model, or the one given, as the settings say, in place, by the task's own `fit` where it has
    one. `memory`: the client's; `measured`: what was measured of the model before.
    """
    lr = float(task.options.get("lr", settings.lr))
    keeps = settings.local_state == "keep"
    state = under(OPTIMIZER, memory or {}) if keeps else {}
    work = Work(learner, settings, lr, model=model, penalty=penalty, state=state)
    torch.manual_seed(learner.seed)
    work.model.train()
    loss = train(work) if learner.fit is None else learner.fit(work.model, work)
    for parameter in work.model.parameters():
        # As large as the model, and of no use to what follows.
        parameter.grad = None
    rise = work.course.rise(measured or {})
    if not math.isfinite(loss):
        rise = NO_NUMBER
    metrics = work.figures if rise is None else {**work.figures, DIVERGING: rise}
    return Trained(loss, metrics, headed(OPTIMIZER, work.state()) if keeps else {})


def train(work: Work) -> float:
    """Our loop; returns the mean loss per example (penalty included) of the last epoch, which `steps` may end early.

    Shuffling depends on the work's seed alone; so does dropout.
    """
    optimizer = work.optimizer()
    stepper = _Stepper(work, optimizer)
    summed, seen = torch.zeros((), device=work.device), 0
    for epoch in range(work.epochs) if work.steps is None else count():
        before = stepper.taken
        summed.zero_()
        seen = 0
        for inputs, targets in work.batches(epoch):
            stepper.begin()
            with work.autocast():
                value = work.loss(work.learner.outputs(work.model, inputs), targets)
            if work.added is not None:
                value = value + work.added(work.model)
            stepper.add(value, len(targets))
            work.course.add(value.detach(), len(targets))
            summed += value.detach() * len(targets)
            seen += len(targets)
            if work.steps is not None and stepper.taken >= work.steps:
                break
        stepper.end()
        if work.steps is not None and (stepper.taken >= work.steps or not seen or stepper.taken == before):
            break
    return float(summed) / max(seen, 1)


class _Stepper:
    """Steps of an optimiser: of one batch, or of several together; with a scale for gradients in 16 bits."""

    def __init__(self, work: Work, optimizer: Optimizer) -> None:
        self._work, self._optimizer = work, optimizer
        self._together = work.settings.accumulate
        self._scale = _FIRST_SCALE if work.precision == "fp16" else 1.0
        self._good = 0
        self._batches, self._examples = 0, 0
        self.taken = 0

    def begin(self) -> None:
        """Before the loss of a batch."""
        if not self._batches:
            self._optimizer.zero_grad()

    def add(self, value: torch.Tensor, examples: int) -> None:
        """The gradient of this mean over so many examples; a step where it is the last of those that go together."""
        if self._together > 1:
            value = value * examples
        if self._scale != 1:
            value = value * self._scale
        value.backward()  # type: ignore[no-untyped-call]
        self._batches += 1
        self._examples += examples
        if self._batches == self._together:
            self._step()

    def end(self) -> None:
        """A pass is over: what is left of it makes a step of its own."""
        if self._batches:
            self._step()

    def _step(self) -> None:
        factor = (self._examples if self._together > 1 else 1) * self._scale
        self._batches = self._examples = 0
        if factor != 1:
            with torch.no_grad():
                for parameter in self._work.model.parameters():
                    if parameter.grad is not None:
                        parameter.grad /= factor
        self._work.rate(self._optimizer, self.taken)
        self.taken += 1
        if self._work.precision == "fp16" and not self._fits():
            return
        self._work.clip(self._work.model)
        self._optimizer.step()

    def _fits(self) -> bool:
        """Whether the gradients are numbers; the scale follows, as that of `torch.amp.GradScaler`."""
        gradients = [one.grad for one in self._work.model.parameters() if one.grad is not None]
        if all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            self._good += 1
            if self._good == _GROWS_AFTER:
                self._scale, self._good = self._scale * 2, 0
            return True
        self._scale, self._good = max(1.0, self._scale / 2), 0
        return False


def proximal(model: nn.Module, mu: float) -> Penalty | None:
    """mu/2 ||w - w0||^2 over what is trained, w0 being the model's present parameters; None for mu = 0."""
    if mu == 0:
        return None
    anchors = [(parameter, parameter.detach().clone()) for parameter in model.parameters() if parameter.requires_grad]

    def penalty(_: nn.Module) -> torch.Tensor:
        return 0.5 * mu * torch.stack([(now - anchor).square().sum() for now, anchor in anchors]).sum()

    return penalty


@contextmanager
def only_trained(chosen: list[torch.Tensor], tensors: list[torch.Tensor]) -> Iterator[None]:
    """Freezes all other tensors: no gradient is computed for them."""
    trained = {id(tensor) for tensor in chosen}
    frozen = [tensor for tensor in tensors if tensor.requires_grad and id(tensor) not in trained]
    for tensor in frozen:
        tensor.requires_grad_(False)
    try:
        yield
    finally:
        for tensor in frozen:
            tensor.requires_grad_(True)


def change(learner: Learner, received: Arrays) -> dict[str, Array]:
    """The model's arrays minus those received, in their own dtypes, by the names they came under."""
    tensors, arrays = model_tensors(learner.model), learner.arrays()
    found: dict[str, Array] = {}
    for name, before in received.items():
        own = own_name(name)
        if is_buffer(name):
            found[name] = difference(arrays[own], before)
        else:
            # Against what was loaded: of 16 bits, that is not all that was received.
            found[name] = arrays[own] - rounded(before, tensors[own])
    return found
