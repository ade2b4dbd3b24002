"""What goes into a model: one tensor, several, or several by name, with as many examples in each."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

Inputs = torch.Tensor | tuple[torch.Tensor, ...] | dict[str, torch.Tensor]
Outputs = Callable[[nn.Module, Inputs], torch.Tensor]
"""How a model is called: `outputs(model, inputs)`."""


def parts_of(inputs: Inputs) -> dict[str, torch.Tensor]:
    """The tensors by name; those of a tuple by their place, one alone as "inputs"."""
    if isinstance(inputs, torch.Tensor):
        return {"inputs": inputs}
    return dict(inputs) if isinstance(inputs, dict) else {str(place): part for place, part in enumerate(inputs)}


def count_of(inputs: Inputs) -> int:
    """Of the examples. Raises: `ValueError` where the tensors differ in it."""
    counts = {name: len(part) for name, part in parts_of(inputs).items()}
    if len(set(counts.values())) != 1:
        found = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(f"the tensors of the inputs hold different numbers of examples: {found or 'there are none'}")
    return next(iter(counts.values()))


def mapped(inputs: Inputs, change: Callable[[torch.Tensor], torch.Tensor]) -> Inputs:
    """Inputs of the same form, each tensor changed."""
    if isinstance(inputs, torch.Tensor):
        return change(inputs)
    if isinstance(inputs, dict):
        return {name: change(part) for name, part in inputs.items()}
    return tuple(change(part) for part in inputs)


def usual_outputs(model: nn.Module, inputs: Inputs) -> torch.Tensor:
    """`model(x)`, `model(*x)` or `model(**x)`; `logits` of an answer that has them, as those of `transformers` do."""
    if isinstance(inputs, torch.Tensor):
        answer = model(inputs)
    else:
        answer = model(**inputs) if isinstance(inputs, dict) else model(*inputs)
    outputs: torch.Tensor = getattr(answer, "logits", answer)
    return outputs


class Called(nn.Module):
    """A model that is called by a hook of the task, as a module of its own: `forward` takes the inputs of a batch in
    whatever form they have. Its parameters are those of the model, under `model.`.
    """

    def __init__(self, model: nn.Module, outputs: Outputs) -> None:
        super().__init__()
        self.model = model
        self._outputs = outputs

    def forward(self, inputs: Inputs) -> torch.Tensor:
        return self._outputs(self.model, inputs)
