"""Training of scores in torch: frozen weights, a fresh mask for every mini-batch, straight-through gradients."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from torch.optim.adam import adam

from thinwire.codecs import Array, Arrays
from thinwire.methods.inputs import Called, Inputs, Outputs
from thinwire.methods.learner import Learner
from thinwire.methods.sparse_masks import SparseMasksSettings
from thinwire.methods.tensors import laid_out, model_tensors


class MaskedModel(Called):
    """A model that runs with other parameters than its own; the mean outcome of several sets of them."""

    def __init__(self, model: nn.Module, outputs: Outputs, sets: Sequence[Mapping[str, torch.Tensor]]) -> None:
        super().__init__(model, outputs)
        self.called = Called(model, outputs)
        self.sets = sets

    def forward(self, inputs: Inputs) -> torch.Tensor:
        outputs = [called_with(self.called, one, inputs) for one in self.sets]
        return outputs[0] if len(outputs) == 1 else torch.stack(outputs).mean(0)


def called_with(called: Called, held: Mapping[str, torch.Tensor], inputs: Inputs) -> torch.Tensor:
    """What the task makes of its model with these parameters in the place of its own."""
    outputs: torch.Tensor = functional_call(called, {f"model.{name}": one for name, one in held.items()}, (inputs,))
    return outputs


def regulariser_slope(scores: torch.Tensor, settings: SparseMasksSettings) -> torch.Tensor | float:
    """The gradient of the regulariser with respect to theta. `mean`: of lambda/n sum of theta; `entropy`: of lambda/n
    sum of H2(theta), in bits.
    """
    share = settings.lambda_ / scores.numel()
    return share if settings.regulariser == "mean" else scores * (-share / math.log(2))


def train_scores(
    learner: Learner, frozen: Arrays, scores: Arrays, settings: SparseMasksSettings, dense: Collection[str] = ()
) -> dict[str, Array]:
    """The scores after local training, float32; both arguments by the names of the model's arrays, in one order.
    `dense`: what of the model is trained as it is, beside them.

    A batch's mask is drawn with the probability theta rounded to a multiple of 2**-16: sixteen random bits cost far
    less than a uniform float, and are the same on every device.
    """
    torch.manual_seed(learner.seed)
    bits = np.random.SFC64(learner.seed)
    names, shapes = list(scores), [scores[name].shape for name in scores]
    sizes = [math.prod(shape) for shape in shapes]
    weights, kept = (_flat(arrays, names).to(learner.device) for arrays in (frozen, scores))
    moments = [torch.zeros_like(kept) for _ in range(2)]
    steps, fused = torch.zeros((), device=learner.device), learner.device.type in ("cpu", "cuda")
    called = Called(learner.model.train(), learner.outputs)
    limit = settings.score_limit
    tensors = model_tensors(learner.model)
    beside = torch.optim.Adam([tensors[name] for name in dense], settings.dense_lr) if dense else None
    for epoch in range(settings.epochs):
        for batch in learner.train.batches(settings.batch_size, learner.seed + epoch):
            inputs, targets = batch.pair
            with torch.no_grad():
                theta = torch.sigmoid(kept)
                effective = drawn(theta, bits).mul_(weights)
            effective.requires_grad_(True)
            pieces = torch.split(effective, sizes)
            held = {name: laid_out(piece.view(shape)) for name, piece, shape in zip(names, pieces, shapes, strict=True)}
            if beside is not None:
                beside.zero_grad()
            learner.loss(called_with(called, held, inputs), targets).backward()  # type: ignore[no-untyped-call]
            if beside is not None:
                beside.step()
            with torch.no_grad():
                assert effective.grad is not None  # noqa: S101
                # dL/dm = dL/dw_eff * w, passed on to theta as it is, then through the sigmoid.
                slope = effective.grad.mul_(weights)
                if settings.ste == "theta":
                    slope.mul_(theta)
                if settings.lambda_:
                    slope += regulariser_slope(kept, settings)
                slope = torch.ops.aten.sigmoid_backward(slope, theta)
                # One pass over the scores instead of a dozen: a fifth of the time of a step of an MLP.
                adam(
                    [kept], [slope], moments[:1], moments[1:], [], [steps], fused=fused, lr=settings.lr,
                    beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.0, amsgrad=False, maximize=False,
                )  # fmt: skip
                kept.clamp_(-limit, limit)
    trained = torch.split(kept.cpu(), sizes)
    return {name: part.view(shape).numpy() for name, part, shape in zip(names, trained, shapes, strict=True)}


def _flat(arrays: Arrays, names: Sequence[str]) -> torch.Tensor:
    return torch.cat([torch.from_numpy(arrays[name].astype("f4").reshape(-1)) for name in names])


def drawn(theta: torch.Tensor, bits: np.random.SFC64) -> torch.Tensor:
    """A mask of `theta`, (n,) float32 on any device: zeros and ones, (n,) float32 beside it.

    In floats, since comparisons that make booleans are slow: d < theta - 1/2, both times 2**16.
    """
    raw = bits.random_raw(-(-theta.numel() // 4)).astype("<u8", copy=False).view("<i2")[: theta.numel()]
    return torch.from_numpy(raw).to(theta.device, torch.float32).lt_(theta.mul(65536.0).sub_(32768.5))
