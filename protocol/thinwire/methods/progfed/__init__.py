"""Progressive training: a model that grows block by block, so that most rounds move only a part of it.

H.-P. Wang, S. U. Stich, Y. He, M. Fritz, "ProgFed: Effective, Communication, and Computation Efficient Federated
Learning by Progressive Training", ICML 2022, arXiv 2110.05323. The model is G_S o E_S o ... o E_1; stage s trains
G_s o E_s o ... o E_1, where G_s for s < S is a temporary head, global average pooling and one linear layer. At growth
the old blocks keep their weights, the new block and head start from their random initialisation. After a growth
`warm-up` extra exchanges train the new block and head alone; they count neither as rounds nor for the cosine.

From the authors' code: local SGD with lr 0.1, momentum 0.9, weight decay 1e-4; one cosine over all rounds; clients
count the same; the server's optimiser restarts at growth. Ours: temporary heads are drawn by the server, U(-1, 1) /
sqrt(fan in) from a counter-based generator keyed by run seed and stage, since no torch runs there; what a U-Net that
grows from the outside in has not grown yet gives zeros; the answer is the update, as in fedavg.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from thinwire.methods.chains import Chains
from thinwire.methods.fedavg import METHOD as FEDAVG
from thinwire.methods.fedavg import FedavgSettings
from thinwire.methods.method import Method

TRAIN = "train"
WARM_UP = "warm-up"


class ProgfedSettings(FedavgSettings):
    """Those of fedavg with the defaults of the authors' code, and how the model grows."""

    lr: float = Field(0.1, gt=0, le=100, description="of the clients' optimiser, in the first round")
    lr_schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="one half wave to nothing over all rounds, warm-up not counted; or as lr-decay says alone"
    )
    weight_decay: float = Field(1e-4, ge=0, le=10)
    weighting: Literal["examples", "uniform"] = Field("uniform", description="p_k = n_k / sum n, or 1 / K")
    stages: Literal["auto"] | tuple[Annotated[int, Field(ge=1)], ...] | tuple[tuple[str, ...], ...] = Field(
        "auto",
        description="where blocks end: auto, every piece of the model is a block; indices of pieces, [1, 3, 4]; or the "
        "names that each block's arrays begin with. What is left is the head",
    )
    schedule: Literal["paper", "equal"] | tuple[Annotated[int, Field(ge=0)], ...] = Field(
        "paper", description="rounds per stage: paper, T / 2S for all but the last; equal, T / S; or their numbers"
    )
    warm_up: int = Field(0, ge=0, le=10_000, description="extra exchanges after a growth for the new block and head")
    growth: Literal["front", "symmetric", "asymmetric"] = Field(
        "front",
        description="front: from the inputs on, under temporary heads; symmetric: a U-Net from the outside in, under "
        "its own head; asymmetric: a U-Net's whole encoder first, then its decoder",
    )
    outputs: int | None = Field(None, ge=1, description="of a temporary head; default: of the model's last array")
    head_widths: tuple[Annotated[int, Field(ge=1)], ...] | None = Field(
        None, description="inputs of each temporary head; default: of each block's last array"
    )

    @model_validator(mode="after")
    def _shares_all(self) -> Self:
        if self.narrows:
            raise ValueError("progfed cuts the model itself: share and buffers = local are of other methods")
        return self

    def lengths(self, stages: int, rounds: int) -> list[int]:
        """The rounds of each stage. Raises: `ValueError` (a list that does not fit)."""
        if isinstance(self.schedule, tuple):
            given = list(self.schedule)
            if len(given) != stages or sum(given) != rounds or given[-1] == 0:
                raise ValueError(f"schedule {given} does not divide {rounds} rounds among {stages} stages")
            return given
        early = rounds // (2 * stages if self.schedule == "paper" else stages)
        return [early] * (stages - 1) + [rounds - early * (stages - 1)]


def _chains(settings: ProgfedSettings) -> Mapping[str, Chains]:
    train = FEDAVG.chains(settings)["train"]
    return {TRAIN: train, WARM_UP: train} if settings.warm_up else {TRAIN: train}


METHOD = Method(
    id="progfed",
    title="Progressive training",
    source="Wang et al., ICML 2022, arXiv 2110.05323",
    settings=ProgfedSettings,
    chains=_chains,
    averages=lambda _: True,
)
