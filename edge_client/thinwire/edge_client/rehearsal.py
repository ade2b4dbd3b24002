"""One guarded step of training and of evaluation before anything is said to a coordinator: a slip in a user's model,
loss or data shows at once, in their own lines, and not in the middle of a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from torch import nn

from thinwire.methods.inputs import parts_of
from thinwire.methods.samples import Samples, TensorSamples, held

from .learner import Learner, said_of_not_finite
from .problems.problem_file import ProblemFileError, own_traceback

_EXAMPLES: Final = 8
_BAD_EXAMPLES: Final = 2


def rehearse(learner: Learner, file: Path | None) -> None:
    """Trains and evaluates on a few examples, and leaves everything as it was. `file`: where the problem stands.

    Raises: `ProblemFileError`, with what is wrong and what to do.
    """
    with _as_it_was(learner.model, learner.device):
        try:
            _step(learner, _few(learner.train))
            for which in ("evaluation", "personal"):
                samples = getattr(learner, which)
                if samples is not None and len(samples) and samples.has_targets:
                    found = learner.evaluate(samples=_few(samples))
                    if found["loss"] != found["loss"] and (words := said_of_not_finite(samples, which)):
                        raise ProblemFileError(words)
        except ProblemFileError:
            raise
        except Exception as error:
            hints = "".join(f"\n{hint}" for hint in _hints(learner))
            raise ProblemFileError(f"one step of training fails: {own_traceback(error, file)}{hints}") from error


def _step(learner: Learner, samples: TensorSamples) -> None:
    learner.model.train()
    inputs, targets = samples.batch.pair
    value = learner.loss(learner.outputs(learner.model, inputs), targets)
    if not isinstance(value, torch.Tensor):
        raise ProblemFileError(f"the loss is a {type(value).__name__}; it is a tensor of one number")
    if value.numel() != 1:
        raise ProblemFileError(
            f"the loss has the shape {tuple(value.shape)}; it is one number, the mean over the examples of a batch"
        )
    if not value.requires_grad:
        raise ProblemFileError("the loss does not depend on any parameter of the model: nothing would be learnt")
    value.backward()  # type: ignore[no-untyped-call]
    for name, parameter in learner.model.named_parameters():
        if parameter.grad is not None and parameter.grad.is_sparse:
            raise ProblemFileError(f"the gradient of {name} is sparse; build its layer with sparse=False")
    if not bool(torch.isfinite(value)):
        raise ProblemFileError(
            said_of_not_finite(learner.train, "train")
            or f"the loss of the first examples is {float(value.detach())}, though all their numbers are finite; "
            "what in model() or the loss divides by zero, or takes the logarithm of it?"
        )


def _few(samples: Samples) -> TensorSamples:
    """The first examples, and, of examples in memory, the first of those that are not all finite: a model may have a
    way with them.
    """
    if not isinstance(samples, TensorSamples):
        return samples.few(_EXAMPLES)
    bad = samples.not_finite()[:_BAD_EXAMPLES]
    chosen = torch.cat([torch.arange(min(_EXAMPLES, len(samples))), bad[bad >= _EXAMPLES]])
    return held(samples.take(chosen), samples.device)


def _hints(learner: Learner) -> Iterator[str]:
    """What often is the cause when a step fails."""
    floats = [parameter.dtype for parameter in learner.model.parameters() if parameter.is_floating_point()]
    inputs, targets = learner.train.few(1).batch.pair
    for name, part in parts_of(inputs).items():
        if floats and part.is_floating_point() and part.dtype != floats[0]:
            yield (
                f"data().train: the {name} are {_name(part.dtype)} and the model's parameters {_name(floats[0])}; "
                f"give {name}.to({floats[0]})"
            )
    if not targets.is_floating_point() and targets.dtype not in (torch.int64, torch.bool):
        yield f"data().train: the targets are {_name(targets.dtype)}; losses of classes take int64: targets.long()"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


@contextmanager
def _as_it_was(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Whatever happens inside, the model and the random numbers to come stay the same."""
    tensors = [*model.parameters(), *model.buffers()]
    values = [tensor.detach().clone() for tensor in tensors]
    modes = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in zip(tensors, values, strict=True):
                    tensor.copy_(value)
                    tensor.grad = None
            for module, training in modes:
                module.training = training
