"""The client half: federated averaging; an answer may be weights, and its ranks may be capped for this client."""

from __future__ import annotations

import torch
from torch import nn

from thinwire.codecs import Array, Arrays, Spec
from thinwire.codecs.decomposition import low_rank_names, truncated
from thinwire.methods.fedavg.client import Client as Fedavg
from thinwire.methods.feddlr import FeddlrSettings
from thinwire.methods.interface import Learner
from thinwire.methods.learning import Penalty, model_tensors


class Client(Fedavg):
    settings: FeddlrSettings

    def penalty(self, learner: Learner, received: Arrays) -> Penalty | None:
        proximal, weight = super().penalty(learner, received), self.settings.nuclear_norm
        if weight == 0:
            return proximal
        # By the order of the run's model, as the codecs choose: the file a run began with need not keep the learner's.
        tensors = model_tensors(learner.model)
        matrices = [tensors[name] for name in self._names(received)]

        def penalty(model: nn.Module) -> torch.Tensor:
            norms = [torch.linalg.matrix_norm(self._matrix(tensor), "nuc") for tensor in matrices]
            value = weight * torch.stack(norms).sum() if norms else torch.zeros(())
            return value if proximal is None else value + proximal(model)

        return penalty

    def answer(self, learner: Learner, received: Arrays) -> dict[str, Array]:
        arrays = super().answer(learner, received) if self.settings.object == "update" else learner.arrays()
        cap = self.settings.max_ranks.get(learner.name)
        if cap is None:
            return arrays
        chosen = self._names(received)
        return {
            name: truncated(array, 1.0, self.settings.unfolding, cap) if name in chosen else array
            for name, array in arrays.items()
        }

    def _names(self, received: Arrays) -> list[str]:
        return low_rank_names(Spec.of(received), self.settings.dense, ends=self.settings.dense_ends)

    def _matrix(self, tensor: torch.Tensor) -> torch.Tensor:
        """As `thinwire.codecs.decomposition.unfold` unfolds it."""
        if self.settings.unfolding == "spatial" and tensor.ndim == 4:
            outputs, inputs, height, width = tensor.shape
            return tensor.permute(1, 2, 0, 3).reshape(inputs * height, outputs * width)
        return tensor.flatten(1)
