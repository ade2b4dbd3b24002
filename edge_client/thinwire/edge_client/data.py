"""What a task file and the client say to each other: who asks for data, and the data."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from torch.utils.data import Dataset

    Inputs = torch.Tensor | tuple[torch.Tensor, ...] | dict[str, torch.Tensor]


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
class Stream:
    """Examples that have no numbers. `open(seed, round)`: one pass over them, in batches (inputs, targets) of the
    stream's own size; the same arguments give the same batches. `examples`: about how many a pass has, which is what
    this client's answers weigh.
    """

    open: Callable[[int, int], Iterable[Any]]
    examples: int


if TYPE_CHECKING:
    Examples = tuple[Inputs, torch.Tensor] | tuple[Inputs] | Dataset[Any] | Stream


@dataclass(frozen=True, slots=True)
class Data:
    """What `data()` of a task file returns: tuples (inputs, targets), map-style Datasets of such pairs, or Streams.

    Inputs are a tensor, a tuple of tensors or a dict of them. `train`: never empty. `evaluation`: held-out examples
    that measure the global model; the mean over all clients, weighted by their numbers, is the figure a run shows.
    `personal`: held-out examples distributed like this client's own. `proxy`: public examples without targets, the
    same on all clients.

    Of Datasets: `collate` makes a batch of examples (default: torch's); a batch is (inputs, targets), or a dict whose
    `labels` are the targets. `workers`: processes that fetch examples; 0: the client itself.
    """

    train: Examples
    evaluation: Examples | None = None
    personal: Examples | None = None
    proxy: Examples | None = None
    workers: int = 0
    collate: Callable[[list[Any]], Any] | None = None
