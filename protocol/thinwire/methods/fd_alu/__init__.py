"""Federated distillation with accumulated local updates: models stay on the clients, small knowledge travels, seldom.

Z. Wu, S. Sun, Y. Wang, M. Liu, T. Wen, W. Wang, "Improving Communication Efficiency of Federated Distillation via
Accumulating Local Updates", arXiv 2312.04166 (2023). From its abstract: a client accumulates several rounds of local
updates before it transfers knowledge, so that bytes fall by that factor. Base methods, by `knowledge`:

- `class`: E. Jeong et al., "Communication-Efficient On-Device Machine Learning: Federated Distillation and Augmentation
  under Non-IID Private Data", arXiv 1811.11479 (2018): mean logits per class, without one's own part.
- `proxy`: D. Li, J. Wang, "FedMD", arXiv 1910.03581 (2019); S. Itahara et al., "Distillation-Based Semi-Supervised
  Federated Learning" (DS-FL), arXiv 2008.06180, entropy-reduced averages; F. Sattler et al. (CFD), arXiv 2012.00632,
  quantised soft labels; enhanced averages: "SCARLET", arXiv 2504.19602; only the more confident labels (DS-FL+): K.
  Azuma, T. Miyazaki, S. Omachi, "Energy-based Knowledge Distillation for Communication-Efficient Federated Learning",
  IEICE General Conference 2024.
- `sample`: Z. Wu et al., "FedCache: A Knowledge Cache-driven Federated Learning Architecture for Personalized Edge
  Intelligence", arXiv 2308.07816 (2023).

Ours, where these are silent or for the reasons given. A local round is one epoch, and a run's `rounds` are local rounds
E: equal rounds are equal epochs for every method. There are ceil(E / tau) exchanges, each named by its last local
round. Only knowledge of the latest exchange travels, not a sum over the block's rounds. The optimiser's state lives for
a block. A client that an exchange does not ask trains nothing in it. Every client's model begins as the run's first
model would, made from its own seed and architecture. Two more under each kind:

- class: rows are weighted by their counts (the paper: plain means of the other clients), so that a client with two
  examples of a class does not say as much as one with two thousand. A class of which the others hold less than a
  hundredth gives no term: the rounding of a broadcast in 16 bits would outweigh their part. Classes with fewer than
  `min-count` examples are not sent: a mean over few examples shows them.
- proxy: every local round distils over the proxy examples, then trains. The average counts every client the same. The
  proxy set is that of most clients in the first exchange; others are then told that theirs is another. Of the more
  confident labels each client sends the same number, those of the lowest energy -log sum exp of its scores (DS-FL+:
  those below a threshold), so that an answer's size is known before.
- sample: the encoder of the hashes is a random projection to `hash-dims` numbers (FedCache: a pretrained network of
  576), since nothing else is known of a user's inputs; a task file may define `encode`. Hashes travel with a client's
  first logits, not before. A client's own other examples may be related. Examples of classes with fewer than
  `min-count` stay unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field

from thinwire.methods.chains import Chains
from thinwire.methods.method import Method
from thinwire.methods.settings import SENT_WHERE_SET, LocalSteps

TRAIN: Final = "train"
CONSENT: Final = "sample-knowledge"
"""What a person allows who lets knowledge of single examples leave the client."""
LEAST_COUNT: Final = 5
"""Without that consent, no mean over fewer examples leaves a client, whatever the settings say."""

Sharpening = Literal["era", "enhanced-era", "none"]


class FdAluSettings(LocalSteps):
    """Those of all kinds of knowledge; each kind uses its own."""

    knowledge: Literal["class", "proxy", "sample"] = Field(
        "class", description="mean logits per class; soft labels of a public proxy set; logits of single examples"
    )
    local_rounds_per_exchange: int = Field(
        1, ge=1, le=1_000_000, description="tau: local rounds between two exchanges; 1 is the base method"
    )
    beta: float = Field(1.5, ge=0, le=1000, description="weight of the others' knowledge beside the labels")
    temperature: float | None = Field(
        None, gt=0, le=100, description="of both softmaxes; default: 3 for sample, 1 for class; proxy has none"
    )
    batch_size: int = Field(8, ge=1, le=1 << 20)
    lr: float = Field(0.01, gt=0, le=100, description="of the clients' optimiser")
    momentum: float = Field(0.9, ge=0, lt=1)
    precision: Annotated[Literal["float32", "bf16"], SENT_WHERE_SET] = Field(
        "float32", description="of the clients' forward passes in training: torch.autocast"
    )
    weight_decay: float = Field(0.0, ge=0, le=10)
    classes: int | None = Field(
        None, ge=2, le=1 << 16, description="scores per example; default: the size of the first model's last array"
    )

    min_count: int = Field(
        LEAST_COUNT, ge=1, le=1 << 30,
        description=f"of class and sample: classes of which a client has fewer examples are not sent; below "
        f"{LEAST_COUNT} only from clients with --allow {CONSENT}",
    )  # fmt: skip

    proxy_samples: int = Field(100, ge=1, le=1 << 20, description="proxy examples drawn per exchange")
    confident_share: float = Field(
        1.0, gt=0, le=1, description="of the proxy labels: a client sends those of which its model is surest"
    )  # fmt: skip
    sharpening: Sharpening = Field("era", description="of the average: softmax(p / T), p**a / sum p**a, or as it is")
    era_temperature: float = Field(0.1, ge=0.01, le=100, description="T of era")
    era_exponent: float = Field(1.5, gt=0, le=100, description="a of enhanced-era")
    label_bits_up: int = Field(8, ge=1, le=16, description="of a client's soft labels; 1 sends the arg-max")
    label_bits_down: int = Field(8, ge=1, le=16, description="of the average")

    related: int = Field(16, ge=1, le=1024, description="R: nearest examples of the same class")
    hash_dims: int = Field(64, ge=1, le=4096, description="numbers in an example's hash, one byte each")

    @property
    def softness(self) -> float:
        """The temperature in force."""
        usual = 3.0 if self.knowledge == "sample" else 1.0
        return usual if self.temperature is None else self.temperature

    @property
    def labels_sent(self) -> int:
        """By one client in one exchange."""
        return max(1, round(self.confident_share * self.proxy_samples))

    @property
    def sends_some(self) -> bool:
        """Whether an answer says which labels it holds."""
        return self.labels_sent < self.proxy_samples

    def local_rounds(self, round_: int) -> range:
        """The local rounds of the block that ends with this one, counted from 1."""
        tau = self.local_rounds_per_exchange
        # Only the last block of a run may end elsewhere than at a multiple of tau.
        return range((round_ - 1) // tau * tau + 1, round_ + 1)


def _chains(settings: FdAluSettings) -> Mapping[str, Chains]:
    if settings.knowledge == "proxy":
        up, down = (f"soft_labels({bits}), entropy" for bits in (settings.label_bits_up, settings.label_bits_down))
        return {TRAIN: Chains.parse(down=down, up=up)}
    narrow = "pack_bits, cast(f16), zstd"
    return {TRAIN: Chains.parse(down=narrow, up=narrow, private=narrow)}


METHOD = Method(
    id="fd_alu",
    title="Federated distillation with accumulated local updates",
    source="Wu et al. 2023, arXiv 2312.04166",
    settings=FdAluSettings,
    chains=_chains,
    shared_model=False,
    extends=True,
)
