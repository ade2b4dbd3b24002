"""The model of a user's problem as a learner holds it: made anew from its seed, and looked at."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from thinwire.codecs import Array, CodecError, Spec
from thinwire.methods.frozen_parts import Digests
from thinwire.methods.tensors import frozen_digests, laid_out, model_spec, model_tensors, rest_frozen

from .problems.problem_file import LearningProblem, ProblemFileError


@dataclass(frozen=True, slots=True)
class HeldModel:
    """`frozen`: of what does not travel. `spec`: of what does. `kept`: buffers that do neither, counters of
    normalisation layers, say, with their first values: part of no answer, so no trace of earlier tasks may stay in
    them. `chance`: of torch, as it was when the model was made. `begun`: first values of arrays that were asked for.
    """

    model: nn.Module
    frozen: Digests
    spec: Spec
    kept: list[tuple[torch.Tensor, torch.Tensor]]
    chance: torch.Tensor
    begun: dict[str, Array] = field(default_factory=dict)

    @staticmethod
    def fresh(problem: LearningProblem, seed: int, device: torch.device) -> HeldModel:
        """As its seed makes it. Raises: `ProblemFileError`."""
        torch.manual_seed(seed)
        model = fresh_model(problem)
        chance, frozen = torch.get_rng_state(), frozen_digests(model)
        model.to(device)
        for parameter in model.parameters():
            parameter.data = laid_out(parameter.data)
        try:
            spec = model_spec(model)
        except CodecError as error:
            raise ProblemFileError(error.detail) from None
        travels = {id(tensor) for tensor in model_tensors(model).values()}
        kept = [(buffer, buffer.clone()) for buffer in model.buffers() if id(buffer) not in travels]
        return HeldModel(model, frozen, spec, kept, chance)


def fresh_model(problem: LearningProblem) -> nn.Module:
    """A model of this problem, of which every array can travel. Raises: `ProblemFileError`."""
    model = problem.model()
    if not isinstance(model, nn.Module):
        raise ProblemFileError(f"model() returned a {type(model).__name__}, not a torch.nn.Module")
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if is_lazy(tensor):
            raise ProblemFileError(
                f"model(): {name} has no shape yet; give its layer its sizes, or run one batch through the model there"
            )
    rest_frozen(model)
    return model
