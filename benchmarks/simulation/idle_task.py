"""A model of 1.6 MB, of which a client changes every weight, and trains nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from thinwire.edge_client.data import ClientInfo, Data


def model() -> nn.Module:
    """400,000 parameters in ten arrays."""
    return nn.ModuleList(nn.Linear(200, 200, bias=False) for _ in range(10))


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return outputs.mean() + 0 * targets.sum()


def outputs(model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    for layer in model.children():
        inputs = layer(inputs)
    return inputs


def fit(model: nn.Module, work: Any) -> float:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1e-3)
    return 0.0


def data(client: ClientInfo) -> Data:
    from thinwire.edge_client.data import Data

    return Data(train=(torch.zeros(1, 200), torch.zeros(1)))
