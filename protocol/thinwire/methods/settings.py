"""What a person configures of a method: the base of every method's settings, and those of local training, which several
methods share.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal, Protocol, TypeVar

from pydantic import Field

from thinwire.protocol.settings import Settings

from .values import Scalar

SENT_WHERE_SET: Final = "sent where set"
"""Marks a setting that plans carry only where it is not the default: an older client knows of none, and needs none."""
Beta = Annotated[float, Field(ge=0, lt=1)]


class MethodSettings(Settings):
    """Base of every method's settings: kebab-case outside, unknown keys are errors, immutable."""

    def told(self) -> dict[str, Any]:
        """As plans carry them."""
        usual = {
            name
            for name, field in type(self).model_fields.items()
            if SENT_WHERE_SET in field.metadata and getattr(self, name) == field.default
        }
        return self.model_dump(mode="json", by_alias=True, exclude=usual)


SettingsT = TypeVar("SettingsT", bound=MethodSettings)


class Rated(Protocol):
    """Settings with a rate that may fall over a run."""

    @property
    def lr(self) -> float: ...
    @property
    def lr_decay(self) -> float: ...
    @property
    def lr_schedule(self) -> Literal["constant", "cosine"]: ...
    def rate(self, round_: int, rounds: int) -> float: ...


class Rates:
    """What the rate of such settings is in each round."""

    def rate(self: Rated, round_: int, rounds: int) -> float:
        """The clients' learning rate in a round, counted from 1, of so many."""
        wave = 0.5 * (1 + math.cos(math.pi * (round_ - 1) / rounds)) if self.lr_schedule == "cosine" else 1.0
        decayed = self.lr * self.lr_decay ** (round_ - 1)
        return decayed * wave

    def lr_options(self: Rated, round_: int, rounds: int) -> dict[str, Scalar]:
        """The task's options that carry this round's rate; none where it never changes."""
        changes = self.lr_decay != 1 or self.lr_schedule == "cosine"
        return {"lr": self.rate(round_, rounds)} if changes else {}


class LocalSteps(MethodSettings):
    """How a client's optimiser goes a step, beyond its rate."""

    local_optimizer: Annotated[Literal["sgd", "adam", "adamw"], SENT_WHERE_SET] = Field(
        "sgd", description="of the clients; adam and adamw want rates near 0.001. A task's optimizer() goes before it"
    )
    local_betas: Annotated[tuple[Beta, Beta], SENT_WHERE_SET] = Field((0.9, 0.999), description="of adam and adamw")
    clip_norm: Annotated[float, SENT_WHERE_SET] = Field(
        0.0, ge=0, description="longest gradient of a step, over all parameters together; 0: any"
    )
    precision: Annotated[Literal["float32", "bf16", "fp16"], SENT_WHERE_SET] = Field(
        "float32", description="of the clients' forward passes in training: torch.autocast"
    )


class LocalTraining(Rates, LocalSteps):
    """What a client does to the arrays it has received."""

    epochs: int = Field(1, ge=1, le=1000, description="passes over the client's own examples per task")
    steps: Annotated[int | None, SENT_WHERE_SET] = Field(
        None, ge=1, le=1_000_000, description="steps per task, instead of epochs: unequal clients then cost alike"
    )
    accumulate: Annotated[int, SENT_WHERE_SET] = Field(
        1, ge=1, le=1 << 16, description="batches whose gradients one step takes together, as of one large batch"
    )
    warmup_steps: Annotated[int, SENT_WHERE_SET] = Field(
        0, ge=0, le=1_000_000, description="of each task: the rate rises evenly over them"
    )
    local_state: Annotated[Literal["fresh", "keep"], SENT_WHERE_SET] = Field(
        "fresh", description="the optimiser's state in every task; keep: it goes on, in the client's memory, never sent"
    )
    share: Annotated[str, SENT_WHERE_SET] = Field(
        "", max_length=1000, description="which arrays travel, by patterns of their names: lora_B,head.*; !PATTERN "
        "takes away; all by default. The others stay with each client",
    )  # fmt: skip
    unshared: Annotated[Literal["frozen", "local"], SENT_WHERE_SET] = Field(
        "frozen", description="parameters that do not travel: as the client's first model has them; local: each client "
        "trains its own, and keeps it",
    )  # fmt: skip
    buffers: Annotated[Literal["average", "local"], SENT_WHERE_SET] = Field(
        "average", description="running statistics; local: each client keeps its own (FedBN)"
    )
    batch_size: int = Field(8, ge=1, le=1 << 20)
    lr: float = Field(0.02, gt=0, le=100, description="of the clients' optimiser")
    lr_decay: float = Field(1.0, gt=0, le=1, description="the clients' rate in round t is lr * lr-decay**(t - 1)")
    lr_schedule: Literal["constant", "cosine"] = Field(
        "constant", description="cosine: the rate falls to nothing in one half wave over all rounds, lr-decay besides"
    )
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, le=10)
    weighting: Literal["examples", "uniform"] = Field("examples", description="p_k = n_k / sum n, or 1 / K")

    @property
    def narrows(self) -> bool:
        """Whether something of the model may stay with each client."""
        return bool(self.share) or self.buffers == "local"
