"""Zeroth-order training by shared seeds and scalars: what travels is how the loss changes along directions that
everybody draws alike.

Z. Li, B. Ying, Z. Liu, C. Dong, H. Yang, "Achieving Dimension-Free Communication in Federated Learning via Zeroth-Order
Optimization" (DeComFL), ICLR 2025, arXiv 2405.15861. With `window`: Z. Qin, D. Chen, B. Qian, B. Ding, Y. Li, S. Deng,
"Federated Full-Parameter Tuning of Billion-Sized Language Models with Communication Cost under 18 Kilobytes"
(FedKSeed), ICML 2024, arXiv 2312.06353: a pool of K directions and one sum for each. The estimate is that of S.
Malladi, T. Gao, E. Nichani, A. Damian, J. D. Lee, D. Chen, S. Arora, "Fine-Tuning Language Models with Just Forward
Passes" (MeZO), NeurIPS 2023, arXiv 2305.17333, Algorithm 1.

In round t a client measures, for s = 1..S and p = 1..P, on a batch b(s) of its own,

    g(s, p) = [L(w + epsilon z; b) - L(w - epsilon z; b)] / (2 epsilon),  |g| <= clip,

and between two steps moves its own w by -(lr / P) sum_p g(s, p) z. The server means these scalars, and everybody's next
model is w - sum over s, p of a(s, p) z(t, s, p), a = float32(lr_t / P * mean g), added in this order in float32.

Ours, with reasons. Directions are of signs, not normal numbers: w + a z is then one exactly rounded addition for every
element, the same bits on every machine. The history holds a, not the mean of g, so that whoever replays it needs no
schedule of rates. The model stays in evaluation mode, dropout off and running statistics as they came (as in MeZO's
code): two passes must differ by the direction alone. A window's directions of a round are drawn from the pool by the
run's seed, not by each client (FedKSeed), so that scalars of several clients can be averaged; its sums are float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import Field

from thinwire.methods.chains import Chains
from thinwire.methods.method import Method
from thinwire.methods.settings import MethodSettings, Rates
from thinwire.methods.values import EVALUATE

TRAIN: Final = "train"
START: Final = "start"
"""The part that holds the model before the first round."""
HISTORY: Final = "history"
"""The part that holds what has become of it since."""
STEPS: Final = "history/steps"
"""Its array: float32, (rounds done, S, P), or (K,) with a window."""


class SeedScalarsSettings(Rates, MethodSettings):
    """For a model that is trained already, or a head or adapters on one; from scratch it takes very many rounds."""

    steps: int = Field(1, ge=1, le=1000, description="S: local steps of a client in a round")
    perturbations: int = Field(8, ge=1, le=10_000, description="P: directions that are tried in each step")
    epsilon: float = Field(1e-3, gt=0, le=1, description="how far a direction is gone to measure the loss")
    lr: float = Field(
        1e-2, gt=0, le=100, description="for heads and adapters 0.001 to 0.1, for whole transformers 1e-6 to 1e-4"
    )
    lr_decay: float = Field(1.0, gt=0, le=1, description="the rate in round t is lr * lr-decay**(t - 1)")
    lr_schedule: Literal["constant", "cosine"] = Field(
        "constant", description="cosine: the rate falls to nothing in one half wave over all rounds, lr-decay besides"
    )
    clip: float = Field(10.0, gt=0, le=1000, description="largest |g| of one direction")
    window: int | None = Field(
        None, ge=1, le=1 << 20, description="draw directions from a pool of so many: then no history is longer; "
        "default: a new one each time"
    )  # fmt: skip
    batch_size: int = Field(16, ge=1, le=1 << 20, description="examples on which one step measures its directions")
    precision: Literal["float32", "bf16"] = Field("float32", description="of the passes through the model")
    weighting: Literal["examples", "uniform"] = Field("examples", description="p_k = n_k / sum n, or 1 / K")


def _chains(settings: SeedScalarsSettings) -> Mapping[str, Chains]:
    down = "append" if settings.window is None else "byte_shuffle, zstd"
    return {TRAIN: Chains.parse(down=down), EVALUATE: Chains.parse(down=down)}


METHOD = Method(
    id="seed_scalars",
    title="Seeds and scalars",
    source="Li et al., ICLR 2025, arXiv 2405.15861; Qin et al., ICML 2024, arXiv 2312.06353",
    settings=SeedScalarsSettings,
    chains=_chains,
)
