"""The task of `benchmarks.pretrained`: BANKING77 with MiniLM, of which `TRAINED` says what is trained.

    head    a linear layer on the encoder's sentences, each of which is computed once
    lora    that, and LoRA on queries and values of the last ABOVE layers; the words below them are computed once
    exact   the same, with the product travelling instead of its factors
    cores   the same, with cores between frozen singular vectors
    masks   the weights of queries and values as they are, for `sparse_masks` to choose of, and the head
    whole   all of the encoder and the head

ABOVE is 2 unless it is given. INTENTS and BANKING77 are those of docs/examples/banking77_lora.py, from which the
encoder is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from benchmarks.banking77.known import numbers, sentences, words
from docs.examples.banking77_lora import INTENTS, LAYERS, WIDTH, Encoder, trained
from thinwire.edge_client.adapters import add_cores, add_lora
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.problems.splits import split

ABOVE: Final = int(os.environ.get("ABOVE", "2"))
"""Layers that have adapters."""
ADAPTED: Final = ("*.self.query", "*.self.value")
MASKED: Final = ("*.self.query.weight", "*.self.value.weight", "head.*")
RANK: Final = 8
CORE: Final = 32
TRAINED: Final = os.environ.get("TRAINED", "head")


class Upper(nn.Module):
    """The last layers and the head, on words as the layers below leave them."""

    def __init__(self, whole: Encoder) -> None:
        super().__init__()
        del whole.embeddings
        whole.encoder["layer"] = nn.ModuleList(list(whole.encoder["layer"].children())[-ABOVE:])
        self.whole, self.head = whole, whole.head
        del whole.head

    def forward(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.whole.sentences(words, mask))
        return found


def _head() -> nn.Module:
    head = nn.Linear(WIDTH, INTENTS)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


def _lora(*, exact: bool = False) -> nn.Module:
    return add_lora(Upper(trained()), ADAPTED, rank=RANK, alpha=2 * RANK, also=["head.*"], exact=exact)


def _masks() -> nn.Module:
    net = Upper(trained())
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(any(fnmatchcase(name, one) for one in MASKED))
    return net


MODELS: Final[Mapping[str, Callable[[], nn.Module]]] = {
    "head": _head,
    "lora": _lora,
    "exact": lambda: _lora(exact=True),
    "cores": lambda: add_cores(Upper(trained()), ADAPTED, rank=CORE, also=["head.*"]),
    "masks": _masks,
    "whole": trained,
}


def model() -> nn.Module:
    return MODELS[TRAINED]()


def data(client: ClientInfo) -> Data:
    labels = numbers("train")[1].numpy()
    mine = split(client.split, labels, None, client.clients, len(labels), client.seed)[client.index]
    held = np.arange(client.index, len(numbers("test")[1]), client.clients)
    if TRAINED == "head":
        (known, intents), (others, theirs) = sentences("train"), sentences("test")
        return Data((known[mine], intents[mine]), (others[held], theirs[held]))
    return Data(Rows("train", mine), Rows("test", held), collate=padded)


class Rows(Dataset[tuple[torch.Tensor, torch.Tensor]]):
    """Questions of any length: their words' numbers for the whole encoder, else their words below its last layers."""

    def __init__(self, which: str, chosen: NDArray[np.int64]) -> None:
        rows, intents = numbers(which) if TRAINED == "whole" else words(which, LAYERS - ABOVE)
        self._held = [(rows[number], intents[number]) for number in chosen.tolist()]

    def __len__(self) -> int:
        return len(self._held)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self._held[number]


def padded(examples: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[dict[str, Any], torch.Tensor]:
    """A batch, as long as its longest question."""
    rows, intents = zip(*examples, strict=True)
    lengths = torch.tensor([len(row) for row in rows])
    inputs = pad_sequence(list(rows), batch_first=True)
    mask = torch.arange(inputs.shape[1]) < lengths[:, None]
    return {"ids" if TRAINED == "whole" else "words": inputs, "mask": mask}, torch.stack(intents)
