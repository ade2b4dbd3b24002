"""What a task file and the client say to each other: who asks for data, and the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.utils.data import Dataset

    Examples = tuple[torch.Tensor, ...] | Dataset[Any]


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """Which client asks.

    `name`: its stable name. `index`, `clients`: which share of how many it is (`--share 3/8` is index 3 of 8), `seed`:
    of split and first model, the same on all clients. `split`: the rule's text, such as `dirichlet:0.3`.
    """

    name: str = "client"
    index: int = 0
    clients: int = 1
    seed: int = 0
    split: str = "iid"


@dataclass(frozen=True, slots=True)
class Data:
    """What `data()` of a task file returns: tuples (inputs, targets) of tensors, or torch Datasets of such pairs.

    `train`: never empty. `evaluation`: held-out examples that measure the global model; the mean over all clients,
    weighted by their numbers, is the figure a run shows. `personal`: held-out examples distributed like this client's
    own. `proxy`: public examples without targets, the same on all clients.
    """

    train: Examples
    evaluation: Examples | None = None
    personal: Examples | None = None
    proxy: Examples | None = None
