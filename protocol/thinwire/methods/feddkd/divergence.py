"""What a distillation step descends: the divergence of the student's map from the teacher's."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.nn import functional

from thinwire.codecs import Array, Arrays
from thinwire.methods.feddkd import FeddkdSettings
from thinwire.methods.learner import Learner
from thinwire.methods.tensors import model_tensors

_AT_ONCE = 256


def portions(start: int, stop: int) -> Iterator[slice]:
    """As many positions at a time as go through a model together: the same for teacher and student, so that equal
    models give equal outputs.
    """
    for low in range(start, stop, _AT_ONCE):
        yield slice(low, min(low + _AT_ONCE, stop))


def class_scores(outputs: torch.Tensor) -> torch.Tensor:
    """Scores along dimension 1; one score alone is that of "yes" against 0."""
    return torch.cat([torch.zeros_like(outputs), outputs], 1) if outputs.shape[1] == 1 else outputs


def divergence(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T**2 KL(softmax(teacher / T) || softmax(student / T)), mean over examples (and positions of a map).

    Its gradient with respect to the student's scores is T (softmax(student / T) - softmax(teacher / T)) / n, after
    Hinton, Vinyals, Dean 2015, arXiv 1503.02531, eq. (2), whose factor T**2 keeps it of one size for all T.
    """
    log_student = functional.log_softmax(class_scores(student) / temperature, 1)
    log_teacher = functional.log_softmax(class_scores(teacher) / temperature, 1)
    return temperature**2 * functional.kl_div(log_student, log_teacher, reduction="none", log_target=True).sum(1).mean()


def gradient(learner: Learner, settings: FeddkdSettings, memory: Arrays, *, size: int, step: int) -> dict[str, Array]:
    """Of the step's target at the learner's present model, averaged over the step's block of `size` examples.

    `memory`: `chosen` and `teacher` of the client half. Zero for buffers and unused parameters. The model is expected
    in evaluation mode.
    """
    chosen = torch.from_numpy(memory["chosen"].copy())
    start = step % (len(chosen) // size) * size
    tensors = model_tensors(learner.model)
    learnt = {name: tensor for name, tensor in tensors.items() if tensor.requires_grad}
    summed = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    for portion in portions(start, start + size):
        inputs, targets = learner.train.take(chosen[portion]).pair
        outputs = learner.outputs(learner.model, inputs)
        value = torch.zeros((), device=outputs.device)
        share = {"teacher": 0.0, "labels": 1.0, "mixture": settings.distil_label_share}[settings.distil_target]
        if share < 1:
            teacher = torch.from_numpy(memory["teacher"][portion].copy()).to(outputs)
            value = value + (1 - share) * divergence(outputs, teacher, settings.distil_temperature)
        if share > 0:
            value = value + share * learner.loss(outputs, targets)
        value = value * (len(targets) / size)
        found = torch.autograd.grad(value, list(learnt.values()), allow_unused=True)
        for name, slope in zip(learnt, found, strict=True):
            if slope is not None:
                summed[name] += slope
    return {name: tensor.cpu().numpy() for name, tensor in summed.items()}
