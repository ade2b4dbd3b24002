"""Federated averaging, then a few steps that train the average towards the clients' models as functions.

X. Li, B. Chen, W. Lu, "FedDKD: Federated Learning with Decentralized Knowledge Distillation", arXiv 2205.00706 (2022).
From its abstract: a module of decentralized knowledge distillation trains the global model towards the average of the
local models' maps, measured by the divergence in the loss, without data on the server, in few steps, with the largest
gain on extremely heterogeneous data. Ours, where the abstract is silent: the divergence is KL of softmax outputs (its
gradients add up to that of KL from the average map, where the teachers see the same examples); a client's teacher is
what it has just trained, on its own examples; the server steps with Adam, whose moments live for one round; about 100
examples per step and client; teacher and student in evaluation mode, so that equal models have equal maps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from thinwire.methods.chains import Chains
from thinwire.methods.fedavg import METHOD as FEDAVG
from thinwire.methods.fedavg import FedavgSettings
from thinwire.methods.method import Method
from thinwire.methods.optimisers import Rule, ServerOptimiser


class FeddkdSettings(FedavgSettings):
    """Those of fedavg for the training exchange, and those of the distillation."""

    distil_steps: int = Field(5, ge=0, le=1000, description="M, steps per round; 0 is fedavg")
    distil_temperature: float = Field(1.0, gt=0, le=100, description="T of both softmaxes")
    distil_optimizer: Rule = Field("adam", description="of the server; its moments last for the steps of a round")
    distil_lr: float | None = Field(
        None, gt=0, le=100, description="default: 0.001 for adam and yogi, 0.01 for sgd and momentum"
    )
    distil_momentum: float = Field(0.9, ge=0, lt=1, description="beta1 of momentum, adam and yogi")
    distil_beta2: float = Field(0.999, ge=0, lt=1, description="of adam and yogi")
    distil_samples: Literal["all"] | Annotated[int, Field(ge=1)] = Field(
        100, description="a client's examples per step; or all"
    )
    distil_every: int = Field(1, ge=1, description="distils in rounds that this divides")
    distil_rounds: Literal["every", "last"] = Field("every", description="last: only after the last round's training")
    distil_target: Literal["teacher", "labels", "mixture"] = Field(
        "teacher", description="what the student follows: the client's trained model, the hard labels, or both"
    )
    distil_label_share: float = Field(0.5, ge=0, le=1, description="weight of the labels in the mixture")
    local_distil_steps: int = Field(
        1, ge=1, le=1000, description="J > 1: a client walks J steps of SGD and answers with the way: fewer exchanges"
    )
    local_distil_lr: float = Field(0.05, gt=0, le=100, description="of those J steps")

    distil_bits: int = Field(8, ge=1, le=16, description="of gradients and of changes of the student on the wire")

    def distils(self, round_: int, rounds: int) -> bool:
        """Whether this round goes on after its training."""
        chosen = round_ == rounds if self.distil_rounds == "last" else round_ % self.distil_every == 0
        return chosen and self.distil_steps > 0

    @property
    def distil_exchanges(self) -> int:
        """Of a round that distils: M steps, J at a time."""
        return -(-self.distil_steps // self.local_distil_steps)

    def distiller(self) -> ServerOptimiser:
        """The server's optimiser of the distillation. With J > 1 the clients' mean way is taken as it is."""
        if self.local_distil_steps > 1:
            return ServerOptimiser("sgd", 1.0)
        usual = 0.001 if self.distil_optimizer in ("adam", "yogi") else 0.01
        lr = usual if self.distil_lr is None else self.distil_lr
        return ServerOptimiser(
            self.distil_optimizer, lr, self.distil_momentum, self.distil_beta2, epsilon=1e-8, unbiased=True
        )


def _chains(settings: FeddkdSettings) -> Mapping[str, Chains]:
    # A gradient bears few bits, and what the rounding loses of it stays in the client's memory. The student travels as
    # what has changed since the broadcast before, which the same cohort holds.
    coarse = f"quantise({settings.distil_bits}), entropy"
    distil = Chains.parse(down=f"delta, {coarse}", up=coarse)
    return {**FEDAVG.chains(settings), "distil": distil}


METHOD = Method(
    id="feddkd",
    title="Decentralized knowledge distillation",
    source="Li, Chen, Lu 2022, arXiv 2205.00706",
    settings=FeddkdSettings,
    chains=_chains,
)
