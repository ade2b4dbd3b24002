"""Arrays as training makes them: a small network on the digits that scikit-learn bundles; about a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn import functional

from thinwire.codecs import Arrays, Context, Spec
from thinwire.codecs.low_rank import LowRank
from thinwire.edge_client.problems.architectures import mlp
from thinwire.edge_client.problems.source import read_digits

EPOCHS = 8
BATCH = 32


def trained_arrays() -> dict[str, Arrays]:
    """`weights` of a trained network (301,066 values), their `factors` at 90 % of the energy, the `update` of one
    more epoch, the `logits` of all training images, and their class `probabilities`: float32.
    """
    source = read_digits()
    inputs = torch.from_numpy(source.x_train).float().div(255).sub(0.5).mul(2)
    targets = torch.from_numpy(source.y_train)
    torch.manual_seed(0)
    model = mlp(tuple(inputs.shape[1:]), 10, (512, 512))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for _ in range(EPOCHS):
        _one_epoch(model, optimiser, inputs, targets)
    weights = _arrays(model)
    with torch.no_grad():
        logits = model(inputs)
    _one_epoch(model, optimiser, inputs, targets)
    update = {name: array - weights[name] for name, array in _arrays(model).items()}
    factors = LowRank(0.9, ends=False).encode(weights, Context(Spec.of(weights)))
    return {
        "weights": weights,
        "update": update,
        "factors": {name: array for name, array in factors.items() if "/" in name},
        "logits": {"rows": logits.numpy()},
        "probabilities": {"rows": functional.softmax(logits, 1).numpy()},
    }


def _one_epoch(model: torch.nn.Module, optimiser: torch.optim.Optimizer, inputs: Any, targets: Any) -> None:
    for chosen in torch.randperm(len(inputs)).split(BATCH):  # type: ignore[no-untyped-call]
        optimiser.zero_grad()
        functional.cross_entropy(model(inputs[chosen]), targets[chosen]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()


def _arrays(model: torch.nn.Module) -> dict[str, Any]:
    return {name: np.array(parameter.detach().numpy()) for name, parameter in model.named_parameters()}
