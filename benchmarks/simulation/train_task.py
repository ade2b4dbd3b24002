"""A small convolutional network and twenty images for each client, drawn from its number; as both systems train it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from thinwire.edge_client.data import ClientInfo, Data

EXAMPLES = 20
BATCH = 8
LR = 0.02
MOMENTUM = 0.9


def model() -> nn.Module:
    """13,706 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(512, 17), nn.ReLU(), nn.Linear(17, 10),
    )  # fmt: skip


def loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(outputs, targets)


def examples(index: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of this client: (20, 1, 8, 8) and (20,)."""
    drawn = torch.Generator().manual_seed(index)
    return torch.randn(EXAMPLES, 1, 8, 8, generator=drawn), torch.randint(0, 10, (EXAMPLES,), generator=drawn)


def data(client: ClientInfo) -> Data:
    from thinwire.edge_client.data import Data

    return Data(train=examples(client.index))
