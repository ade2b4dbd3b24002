"""What is measured of a model on held-out examples: its loss, its scores, and what a task sums up of all outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import nn

from thinwire.methods.inputs import Outputs
from thinwire.methods.samples import Samples

from .problems.problem_file import LearningProblem, ProblemFileError
from .scores import Scores

_EVALUATION_ELEMENTS: Final = 1 << 21
"""Input elements in one batch of an evaluation: 8 MiB of float32, so that U-Nets evaluate on small devices."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,31}")
_OURS: Final = frozenset({"loss", "examples", "seconds", "not_finite", "diverging", "stage", "density", "bpp_array"})


class Measures:
    """Of the models of this problem."""

    def __init__(self, problem: LearningProblem) -> None:
        self._problem = problem
        self._scores = Scores(problem.loss)

    def of(self, model: nn.Module, outputs: Outputs, samples: Samples) -> dict[str, float]:
        """Means over the examples, and their number as `examples`. Leaves the model in the mode it was in.

        Raises: `ProblemFileError` (the task's own `score` or `summary` give something else than they may).
        """
        size = max(1, min(512, _EVALUATION_ELEMENTS // max(1, samples.elements)))
        mode = model.training
        model.eval()
        sums: dict[str, float] = {}
        weights: dict[str, float] = {}
        kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        with torch.no_grad():
            for batch in samples.batches(size):
                inputs, targets = batch.pair
                found = outputs(model, inputs)
                loss = float(self._problem.loss(found, targets)), float(len(targets))
                for name, (value, weight) in {"loss": loss, **self._scored(found, targets)}.items():
                    sums[name] = sums.get(name, 0.0) + value * weight
                    weights[name] = weights.get(name, 0.0) + weight
                if self._problem.summary is not None:
                    kept.append((found.cpu(), targets.cpu()))
        model.train(mode)
        means = {name: value / weights[name] for name, value in sums.items()}
        return {**means, **self._summed_up(kept), "examples": float(len(samples))}

    def _scored(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, tuple[float, float]]:
        """By name, each with its weight among those of other batches."""
        if self._problem.score is None:
            return self._scores.of(outputs, targets)
        found: dict[str, tuple[float, float]] = {}
        for name, values in _named("score", self._problem.score(outputs, targets)).items():
            if not isinstance(values, torch.Tensor) or tuple(values.shape) != (len(targets),):
                shape = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
                raise ProblemFileError(
                    f"score(): {name} is {shape}; it is a tensor with one value per example, ({len(targets)},)"
                )
            found[name] = float(values.double().mean()), float(len(targets))
        return found

    def _summed_up(self, kept: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, float]:
        if self._problem.summary is None or not kept:
            return {}
        outputs, targets = (torch.cat(parts) for parts in zip(*kept, strict=True))
        found = _named("summary", self._problem.summary(outputs, targets))
        try:
            return {name: float(value) for name, value in found.items()}
        except (TypeError, ValueError, RuntimeError) as error:
            raise ProblemFileError(f"summary(): each of its values is one number: {error}") from None


def _named(hook: str, found: Any) -> Mapping[str, Any]:
    """Raises: `ProblemFileError`."""
    if not isinstance(found, Mapping):
        raise ProblemFileError(f"{hook}() returned a {type(found).__name__}; it is a dict of names and values")
    for name in found:
        if not isinstance(name, str) or _NAME.fullmatch(name) is None or name in _OURS:
            raise ProblemFileError(
                f"{hook}(): {name!r} is no name for a score: small letters, digits and _, 32 at most, and none of "
                f"{', '.join(sorted(_OURS))}"
            )
    return found
