"""The work of one task: what a loop of training takes, ours or a task's own `fit(model, work)`."""

from __future__ import annotations

import math
import statistics
from array import array as numbers
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

from thinwire.codecs import Arrays

from .inputs import Inputs
from .learner import Learner
from .local_optimizers import LocalOptimizer, Optimizer, autocast, build, clip
from .progress import NO_NUMBER
from .samples import cuts
from .settings import LocalTraining

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

Penalty = Callable[[nn.Module], torch.Tensor]
_KEPT_AT_ONCE: Final = 256
_QUARTERS: Final = 4
_NOISE: Final = 1.1


class Work:
    """What is to be done with a model in one task.

    `epochs`, or `steps` instead where it is not None; `batch_size`; `lr`: of this round; `precision`: `float32`, `bf16`
    or `fp16`; `seed`: everything random follows from it; `round` of `rounds`, counted from 1; `device`, where the model
    is; `devices`: all that the client may use, that one first; `loss`: the task's.
    """

    def __init__(
        self,
        learner: Learner,
        settings: LocalTraining,
        lr: float,
        *,
        model: nn.Module | None = None,
        penalty: Penalty | None = None,
        state: Arrays | None = None,
    ) -> None:
        self.epochs, self.steps, self.batch_size = settings.epochs, settings.steps, settings.batch_size
        self.lr, self.precision = lr, settings.precision
        self.seed, self.round, self.rounds = learner.seed, learner.round, learner.rounds
        self.device, self.devices, self.loss = learner.device, learner.devices, learner.loss
        self.model = learner.model if model is None else model
        self.settings, self.learner = settings, learner
        self.added = penalty
        self.figures: dict[str, float] = {}
        self.course = Course()
        self._state = state or {}
        self._used: LocalOptimizer | None = None
        self._passes = 0

    def batches(self, epoch: int) -> Iterator[tuple[Inputs, torch.Tensor]]:
        """One pass over this client's examples, (inputs, targets), shuffled as the run's seed, the client, the round
        and `epoch` say.
        """
        for batch in self.learner.train.batches(self.batch_size, self.seed + epoch):
            yield batch.pair

    def dataloader(self, targets: str | None = None) -> DataLoader[Any]:
        """The same as a `DataLoader`, each pass being the next epoch. `targets`: where inputs have names, the targets
        are put among them under this one, as the trainer of `transformers` takes them ("labels").
        """
        # Of all programs that train, few ask for one.
        from torch.utils.data import DataLoader

        from .passes import Passes

        length = sum(1 for _ in cuts(len(self.learner.train), self.batch_size))
        passes = Passes(lambda: self._next_pass(targets), length)
        # With a generator of its own: the model's random numbers are not to depend on who fetches.
        return DataLoader(passes, batch_size=None, collate_fn=_as_it_is, generator=torch.Generator())

    def _next_pass(self, name: str | None) -> Iterator[Any]:
        epoch, self._passes = self._passes, self._passes + 1
        for inputs, targets in self.batches(epoch):
            if name is None:
                yield inputs, targets
            elif isinstance(inputs, dict):
                yield {**inputs, name: targets}
            else:
                raise TypeError(f"dataloader(targets={name!r}) is for inputs that have names: give a dict of tensors")

    def optimizer(self) -> Any:
        """A fresh one for what is trained of the model: the task's own `optimizer()`, or else the run's, which goes on
        from the last task's state where the run says so.
        """
        named = {name: one for name, one in self.model.named_parameters() if one.requires_grad}
        if self.learner.optimizer is not None:
            return self.learner.optimizer(list(named.values()), self.lr)
        settings = self.settings
        self._used = build(
            settings.local_optimizer,
            named,
            lr=self.lr,
            momentum=settings.momentum,
            betas=settings.local_betas,
            weight_decay=settings.weight_decay,
        )
        self._used.take_up(self._state)
        return self._used

    def penalty(self, model: nn.Module) -> torch.Tensor:
        """What the run adds to the loss of every batch (`proximal-mu`, for one); zero where it adds nothing."""
        return torch.zeros((), device=self.device) if self.added is None else self.added(model)

    def clip(self, model: nn.Module) -> None:
        """Shortens the gradient to the run's `clip-norm`, where it has one."""
        clip(model, self.settings.clip_norm)

    def autocast(self) -> AbstractContextManager[Any]:
        """The run's precision, to call model and loss in."""
        return autocast(self.precision, self.device)

    def due(self) -> float | None:
        """Seconds until this task is given up; None where it has no limit."""
        return self.learner.seconds_left()

    def report(self, **figures: float) -> None:
        """Adds figures to this answer's metrics, by name; a later one replaces an earlier one of its name."""
        self.figures |= {name: float(value) for name, value in figures.items()}

    def state(self) -> Arrays:
        """Of the run's optimiser, after training; {} where the task's own was used."""
        return {} if self._used is None else self._used.arrays()

    def rate(self, optimizer: Optimizer, step: int) -> None:
        """Sets the rate of a step, counted from 0, while the task warms up."""
        warmup = self.settings.warmup_steps
        if not warmup or step > warmup:
            return
        share = min(1.0, (step + 1) / warmup)
        if isinstance(optimizer, LocalOptimizer):
            optimizer.lr = self.lr * share
            return
        for group in getattr(optimizer, "param_groups", ()):
            group["lr"] = group.setdefault("thinwire_lr", group["lr"]) * share


def _as_it_is(batch: Any) -> Any:
    return batch


class Course:
    """How the loss went in one task."""

    def __init__(self) -> None:
        self._new: list[torch.Tensor] = []
        self._losses, self._counts = numbers("d"), numbers("d")

    def add(self, loss: torch.Tensor, examples: int) -> None:
        """Of one batch: the mean, a tensor of one number, which is looked at later."""
        self._new.append(loss)
        self._counts.append(examples)
        if len(self._new) == _KEPT_AT_ONCE:
            self._look()

    def _look(self) -> None:
        if self._new:
            self._losses.extend(torch.stack([one.double() for one in self._new]).tolist())
            self._new.clear()

    def rise(self, measured: Mapping[str, float]) -> float | None:
        """How many times its start the loss is at least, in every quarter of what follows the first batch; None where
        that may be noise: a tenth, or twice what batches differ by, at most half. `measured`: before training; a start
        below its `loss` is luck. `NO_NUMBER` where it is no number.
        """
        self._look()
        losses, counts = self._losses[1:], self._counts[1:]
        if not losses:
            return None
        size = -(-len(losses) // _QUARTERS)
        quarters = [(losses[at : at + size], counts[at : at + size]) for at in range(0, len(losses), size)]
        means = [_mean(*quarter) for quarter in quarters]
        if not all(map(math.isfinite, [self._losses[0], *means])):
            return NO_NUMBER
        least = min(means)
        calmest, _ = quarters[means.index(least)]
        first, start = self._losses[0], max(self._losses[0], measured.get("loss", 0.0))
        # Where steps are wild batches differ by anything, which excuses nothing.
        noise = min(statistics.pstdev(calmest), start / 4)
        if start <= 0 or least <= start * _NOISE or least <= first + 2 * noise:
            return None
        return min(least / start, NO_NUMBER)


def _mean(losses: numbers[float], counts: numbers[float]) -> float:
    return sum(loss * count for loss, count in zip(losses, counts, strict=True)) / max(sum(counts), 1.0)
