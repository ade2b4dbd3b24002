"""What a person configures of a method: the base of every method's settings, and those of local training, which several
methods share.
"""

from __future__ import annotations

import math
from typing import Literal, Protocol, TypeVar

from pydantic import Field

from thinwire.protocol.settings import Settings

from .values import Scalar


class MethodSettings(Settings):
    """Base of every method's settings: kebab-case outside, unknown keys are errors, immutable."""


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


class LocalTraining(Rates, MethodSettings):
    """What a client does to the arrays it has received: SGD, its state fresh in every task."""

    epochs: int = Field(1, ge=1, le=1000, description="passes over the client's own examples per task")
    batch_size: int = Field(8, ge=1, le=1 << 20)
    lr: float = Field(0.02, gt=0, le=100, description="of the clients' SGD")
    lr_decay: float = Field(1.0, gt=0, le=1, description="the clients' rate in round t is lr * lr-decay**(t - 1)")
    lr_schedule: Literal["constant", "cosine"] = Field(
        "constant", description="cosine: the rate falls to nothing in one half wave over all rounds, lr-decay besides"
    )
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, le=10)
    weighting: Literal["examples", "uniform"] = Field("examples", description="p_k = n_k / sum n, or 1 / K")
