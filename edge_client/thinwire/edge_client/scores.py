"""What is said of a model beside its loss: accuracy where the loss itself shows which outputs it takes for right, and
Dice of maps. Anything else would be a guess, and a guess is not shown.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import nn

from .problems.segmentation import dice

_CERTAIN: Final = 20.0
"""A score of an answer that is meant, and the negative of one that is not."""
_NOTHING: Final = 1e-3
"""What a loss may cost where all answers are certain and right."""
_SIGN: Final = -1
_NO_CLASS: Final = -100
"""What torch's losses ignore where they are told nothing."""

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Scores:
    """Of the outputs that this loss is for."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self._ignored = int(getattr(loss, "ignore_index", _NO_CLASS))
        self._found: dict[tuple[Any, ...], int | None] = {}

    def of(self, outputs: object, targets: torch.Tensor) -> dict[str, tuple[float, float]]:
        """By name, each with its weight among those of other batches; empty where nothing can be said."""
        if not isinstance(outputs, torch.Tensor):
            return {}
        if outputs.ndim == 4 and targets.ndim == 3:
            return {"dice": (float(dice(outputs, targets).mean()), float(len(targets)))}
        where = self._classes_along(outputs, targets)
        if where is None:
            return {}
        if where == _SIGN:
            right = (outputs > 0) == (targets.reshape(outputs.shape) > 0.5)
        else:
            asked = self._asked(targets, outputs.shape[where])
            right = outputs.argmax(where) == targets
            right = right[asked]
        return {"accuracy": (float(right.double().mean()), float(right.numel()))} if right.numel() else {}

    def _classes_along(self, outputs: torch.Tensor, targets: torch.Tensor) -> int | None:
        """The dimension of the classes; `_SIGN` where one score says yes or no; None where nothing is meant."""
        key = (*outputs.shape[1:], "of", *targets.shape[1:], targets.dtype)
        if key not in self._found:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                meant = self._meant(outputs, targets)
            if len(meant) > 1:
                # Two readings fit these few examples; the next ones may tell.
                return None
            self._found[key] = meant[0] if meant else None
        return self._found[key]

    def _meant(self, outputs: torch.Tensor, targets: torch.Tensor) -> list[int]:
        if _one_score(outputs, targets):
            yes = targets.reshape(outputs.shape) > 0.5
            return [_SIGN] if self._costs_nothing(torch.where(yes, _CERTAIN, -_CERTAIN), targets) else []
        if targets.is_floating_point() or targets.dtype == torch.bool or outputs.ndim != targets.ndim + 1:
            return []
        along = [
            dim
            for dim in range(1, outputs.ndim)
            if outputs.shape[dim] > 1 and outputs.shape[:dim] + outputs.shape[dim + 1 :] == targets.shape
        ]
        if isinstance(self._loss, (nn.CrossEntropyLoss, nn.NLLLoss)):
            return [dim for dim in along if dim == 1]
        return [dim for dim in along if self._costs_nothing(self._certain(outputs, targets, dim), targets)]

    def _certain(self, outputs: torch.Tensor, targets: torch.Tensor, dim: int) -> torch.Tensor:
        """Scores that are right without a doubt, also where they are taken for logarithms of probabilities."""
        classes = outputs.shape[dim]
        known = torch.where(self._asked(targets, classes), targets, 0).long()
        scores = torch.full_like(outputs, -2 * _CERTAIN)
        return scores.scatter_(dim, known.unsqueeze(dim), 0.0)

    def _asked(self, targets: torch.Tensor, classes: int) -> torch.Tensor:
        """Where a target is a class, and not one that the loss ignores."""
        return (targets >= 0) & (targets < classes) & (targets != self._ignored)

    def _costs_nothing(self, scores: torch.Tensor, targets: torch.Tensor) -> bool:
        try:
            return abs(float(self._loss(scores, targets))) < _NOTHING
        except Exception:
            # A user's own loss may want other outputs than these.
            return False


def _one_score(outputs: torch.Tensor, targets: torch.Tensor) -> bool:
    """Whether there is one output for each example, and each target says yes or no."""
    if outputs.numel() != len(outputs) or targets.numel() != len(outputs):
        return False
    return bool(((targets == 0) | (targets == 1)).all())
