"""Federated averaging whose payloads are matrices of low rank, both ways.

Z. Qiao, X. Yu, J. Zhang, K. B. Letaief, "Communication-Efficient Federated Learning with Dual-Side Low-Rank
Compression" (FedDLR), arXiv 2104.12416 (2021). From its abstract: the model is compressed by low-rank approximation at
the server and at the clients, and training ends in a compact model. Ours, where the abstract is silent: the rank rule
(energy of the singular values), balanced factors, which arrays stay dense, and that reconstructed matrices are
averaged, never factors.

Deviation: the default truncates *updates* against what both ends hold (`object = "update"`), and the model once, at the
end (`compact-energy`). The literal reading, truncating the weights in every round, is `object = "weights"`; from a
random start it either never compresses or falls to a few ranks and stalls, and the error does not vanish with the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from thinwire.codecs import BUFFERS, Arrays, Spec
from thinwire.codecs.decomposition import Unfolding, low_rank_names
from thinwire.methods.chains import Chains
from thinwire.methods.fedavg import FedavgSettings
from thinwire.methods.method import Method

Energy = Annotated[float, Field(gt=0, le=1)]
Stage = tuple[Annotated[int, Field(ge=2)], Energy, Energy]


class FeddlrSettings(FedavgSettings):
    """Those of fedavg, and what is truncated, where, and how far."""

    object: Literal["update", "weights"] = Field("update", description="what is truncated in every round")
    energy_down: Energy = Field(0.9, description="share of a matrix's squared norm that a broadcast keeps")
    energy_up: Energy = Field(0.9, description="and an answer")
    schedule: tuple[Stage, ...] = Field((), description="[round, energy-down, energy-up] from that round on, ascending")
    sides: Literal["both", "up", "down"] = Field("both", description="which direction is truncated")
    max_rank: int = Field(0, ge=0, description="caps all ranks; 0: no cap")
    max_ranks: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default_factory=dict, description="further caps of single clients' answers, by name"
    )
    unfolding: Unfolding = Field("channel", description="how a convolution becomes a matrix")
    dense: tuple[str, ...] = Field((), description="arrays that are never truncated, by name")
    dense_ends: bool = Field(True, description="nor are the first convolution and the classifier")
    nuclear_norm: float = Field(0.0, ge=0, description="lambda of the penalty on the sum of singular values")
    factors: str = Field(
        "cast(f16), byte_shuffle(2), zstd", max_length=500, description="chain behind low_rank, in both directions"
    )
    compact_energy: Energy | None = Field(None, description="truncates the final model; none: it stays dense")

    @model_validator(mode="after")
    def _update_is_fed_back(self) -> Self:
        if self.error_feedback and self.object == "weights":
            raise ValueError("error-feedback is for updates; of weights every answer is whole again")
        return self

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if any(first[0] >= second[0] for first, second in pairwise(self.schedule)):
            raise ValueError("the rounds of the schedule ascend")
        return self

    def kind(self, round_: int) -> str:
        """Of the exchange of this round: `train`, or `train-N` from round N of the schedule on.

        The first broadcast of weights, of a random matrix as a rule, is dense: `first`.
        """
        if round_ == 1 and self.object == "weights" and self.sides != "up":
            return "first"
        begun = [stage[0] for stage in self.schedule if stage[0] <= round_]
        return f"train-{begun[-1]}" if begun else "train"

    def low_rank(self, energy: float) -> str:
        """The codec as text."""
        return (
            f"low_rank(energy={energy!r}, max_rank={self.max_rank}, dense={self.dense!r}, ends={self.dense_ends}, "
            f"unfolding={self.unfolding!r})"
        )


def matrices(arrays: Arrays, settings: FeddlrSettings) -> list[str]:
    """The names of those arrays that are truncated, as the codec chooses among what it sees: no buffers."""
    seen = {name: array for name, array in arrays.items() if not name.startswith(BUFFERS)}
    return low_rank_names(Spec.of(seen), settings.dense, ends=settings.dense_ends)


def _chains(settings: FeddlrSettings) -> Mapping[str, Chains]:
    base = "delta, " if settings.object == "update" else ""

    def chains(energy_down: float, energy_up: float) -> Chains:
        down, up = settings.low_rank(energy_down), settings.low_rank(energy_up)
        return Chains.parse(
            down="byte_shuffle, zstd" if settings.sides == "up" else f"{base}{down}, {settings.factors}",
            up=settings.factors if settings.sides == "down" else f"{up}, {settings.factors}",
        )

    first = chains(settings.energy_down, settings.energy_up)
    found = {"train": first, **{f"train-{round_}": chains(down, up) for round_, down, up in settings.schedule}}
    if settings.kind(1) == "first":
        found["first"] = Chains(Chains.parse("byte_shuffle, zstd").down, first.up, first.full)
    return found


METHOD = Method(
    id="feddlr",
    title="Dual-side low-rank compression",
    source="Qiao et al. 2021, arXiv 2104.12416",
    settings=FeddlrSettings,
    chains=_chains,
    averages=lambda settings: settings.object == "update",
    extends=True,
)
