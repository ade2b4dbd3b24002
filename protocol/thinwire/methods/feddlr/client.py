"""The client half: federated averaging; an answer may be weights, and its ranks may be lower than the run's.

A rank travels with the factors, so what a narrower `low_rank` writes is read by the chain of the plan.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from thinwire.codecs import Array, ArrayCodec, Arrays, Chain
from thinwire.codecs.decomposition import largest_rank, matrix_shape
from thinwire.codecs.low_rank import LowRank
from thinwire.methods.arrays import is_buffer
from thinwire.methods.fedavg.client import Client as Fedavg
from thinwire.methods.feddlr import FeddlrSettings, matrices
from thinwire.methods.learner import Learner
from thinwire.methods.tensors import model_tensors
from thinwire.methods.work import Penalty


class Client(Fedavg):
    settings: FeddlrSettings

    def penalty(self, learner: Learner, received: Arrays) -> Penalty | None:
        proximal, weight = super().penalty(learner, received), self.settings.nuclear_norm
        if weight == 0:
            return proximal
        # By the order of the run's model, as the codecs choose: the file a run began with need not keep the learner's.
        tensors = model_tensors(learner.model)
        chosen = [tensors[name] for name in matrices(received, self.settings)]

        def penalty(model: nn.Module) -> torch.Tensor:
            norms = [torch.linalg.matrix_norm(self._matrix(tensor), "nuc") for tensor in chosen]
            value = weight * torch.stack(norms).sum() if norms else torch.zeros(())
            return value if proximal is None else value + proximal(model)

        return penalty

    def answer(self, learner: Learner, received: Arrays) -> dict[str, Array]:
        """With `object = "weights"` these, and what has changed of buffers, which need not be finite."""
        changed = super().answer(learner, received)
        if self.settings.object == "update":
            return changed
        arrays = learner.arrays()
        return {name: array if is_buffer(name) else arrays[name] for name, array in changed.items()}

    def narrow(self, answer: Arrays, learner: Learner) -> None:
        """Caps the ranks for this client: by the run's `max-ranks`, and so that the answer fits what the client is
        ready to send, where rank 1 does.
        """
        cap = self.settings.max_ranks.get(learner.name, 0)
        if cap:
            learner.uplink = capped(learner.uplink, cap)
        most = learner.max_answer_bytes
        if most is not None and self.settings.error_feedback:
            # What is shortened afterwards may round, and code, a little differently.
            most -= most // 100
        if most is None or len(learner.encoded(answer)) <= most:
            return
        chain, unfolding = learner.uplink, self.settings.unfolding
        ranks = [largest_rank(matrix_shape(answer[name].shape, unfolding)) for name in matrices(answer, self.settings)]
        # The largest cap that fits, by halving: `low` fits or is 1, `high` does not.
        low, high = 1, 1 + max(ranks, default=1)
        while high - low > 1:
            middle = (low + high) // 2
            learner.uplink = capped(chain, middle)
            low, high = (middle, high) if len(learner.encoded(answer)) <= most else (low, middle)
        learner.uplink = capped(chain, low)

    def _matrix(self, tensor: torch.Tensor) -> torch.Tensor:
        """As `thinwire.codecs.decomposition.unfold` unfolds it."""
        if self.settings.unfolding == "spatial" and tensor.ndim == 4:
            outputs, inputs, height, width = tensor.shape
            return tensor.permute(1, 2, 0, 3).reshape(inputs * height, outputs * width)
        return tensor.flatten(1)


def capped(chain: Chain, rank: int) -> Chain:
    """The chain with no rank of `low_rank` above this."""
    return replace(chain, array_codecs=tuple(_capped(codec, rank) for codec in chain.array_codecs))


def _capped(codec: ArrayCodec, rank: int) -> ArrayCodec:
    return replace(codec, max_rank=min(codec.max_rank or rank, rank)) if isinstance(codec, LowRank) else codec
