"""The settings of one run: what `run.toml` holds, in kebab-case; unknown keys are errors."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


def kebab(name: str) -> str:
    return name.replace("_", "-")


class Settings(BaseModel):
    """Base of everything a person configures."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        alias_generator=kebab,
        allow_inf_nan=False,
    )


class ChainSettings(Settings):
    """Chains of one kind of exchange as text; what is left out stays the method's default. "" is the bare container."""

    down: str | None = Field(None, max_length=1000)
    up: str | None = Field(None, max_length=1000)
    private: str | None = Field(None, max_length=1000)


class RunSettings(Settings):
    """One training, from settings to final model."""

    name: str = Field("run", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="unique among the runs")
    method: str = Field("fedavg", max_length=64, description="a method's id")
    settings: dict[str, Any] = Field(default_factory=dict, description="of the method")
    rounds: int = Field(10, ge=1, le=1_000_000)
    seed: int = Field(0, ge=0, lt=1 << 63)
    group: str = Field(
        "default", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="clients of this group may serve the run"
    )

    cohort: int = Field(8, ge=1, le=1_000_000, description="answers an exchange closes at")
    min_clients: int | None = Field(None, ge=1, description="present clients before the run starts; default: cohort")
    over_select: float = Field(1.0, ge=1.0, le=10.0, description="asks cohort x this many clients")
    max_staleness: int | None = Field(
        None, ge=1, le=1000,
        description="makes the run asynchronous: an exchange closes at cohort answers, whichever model they began "
        "from, and takes those that are up to so many exchanges old; default: rounds",
    )  # fmt: skip
    concurrency: int | None = Field(
        None, ge=1, le=1_000_000, description="clients at work at a time in an asynchronous run; default: twice cohort"
    )
    quorum: int | None = Field(None, ge=1, description="answers without which an exchange fails; default: cohort")
    deadline_s: float | None = Field(None, gt=0, description="of an exchange; default: none")
    max_offers: int = Field(
        3, ge=1, le=1000, description="times an exchange without quorum is offered before the run pauses"
    )
    evaluate: bool = Field(True, description="one exchange of evaluation after the last round")
    max_bytes: int | None = Field(
        None, ge=1, description="wire bytes of the run: no round begins that would pass them; default: none"
    )
    max_bytes_per_round: int | None = Field(
        None,
        ge=1,
        description="wire bytes of one client in a round: whoever would pass them is left out; default: none",
    )
    max_bytes_per_day: int | None = Field(None, ge=1, description="of one client on a day (UTC), likewise")
    max_bytes_per_month: int | None = Field(None, ge=1, description="of one client in a month (UTC), likewise")
    least_bits: int | None = Field(
        None, ge=1, le=16,
        description="where max-bytes or max-bytes-per-round would not last, quantise has fewer bits, down to these",
    )  # fmt: skip
    least_cohort: int | None = Field(
        None,
        ge=1,
        description="where max-bytes would not last, the cohort is smaller, down to this; the quorum with it",
    )

    best: str | None = Field(
        None, max_length=200, pattern=r"^(none|-?[a-z][a-z0-9_]{0,31}(,-?[a-z][a-z0-9_]{0,31}){0,3})$",
        description="scores by which the best model is kept beside the last, as f1,-rmse: with - the lower the better; "
        "none; default: accuracy or Dice, else loss",
    )  # fmt: skip

    chains: Literal["default", "plain"] | dict[str, ChainSettings] = Field(
        "default", description="the method's chains; raw arrays; or chains by kind of exchange, `*` for all"
    )
    uplink: str | None = Field(None, max_length=1000, description="chain of all answers, as text")
    downlink: str | None = Field(None, max_length=1000, description="chain of all broadcasts, as text")

    max_examples: int = Field(1 << 16, ge=1, le=1 << 30, description="caps a client's weight")
    max_value: float = Field(1024.0, gt=0, le=1e12, description="largest |x| an answer may hold")
    reducer: Literal["mean", "median", "trimmed-mean"] | None = Field(
        None, description="what is made of the answers, where the method averages updates; default: mean"
    )
    trim: float | None = Field(
        None, gt=0, lt=0.5, description="share of the answers trimmed-mean leaves out at each end; default: 0.1"
    )
    max_norm: float | None = Field(None, gt=0, description="bound on the L2 norm of one update; default: none")
    over_norm: Literal["clip", "refuse"] | None = Field(
        None, description="an update beyond max-norm is scaled down to it, or refused; default: clip"
    )
    frozen: Literal["any"] | tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")], ...] | None = Field(
        None, max_length=16,
        description="marks of the parts of clients' models that do not travel; any: they may differ; default: as the "
        "model file has them",
    )  # fmt: skip
    payloads: Literal["private", "public"] = Field("private", description="public: any holder of a digest may fetch")

    @model_validator(mode="after")
    def _policy(self) -> RunSettings:
        if self.quorum is not None and self.quorum > self.cohort:
            raise ValueError(f"quorum {self.quorum} is larger than cohort {self.cohort}")
        if self.least_cohort is not None and (self.max_bytes is None or self.least_cohort > self.cohort):
            raise ValueError("least-cohort says how far max-bytes may lower the cohort: give that, and no more than it")
        if self.least_bits is not None and self.max_bytes is None and self.max_bytes_per_round is None:
            raise ValueError("least-bits says how far a budget may lower bits: give max-bytes or max-bytes-per-round")
        if self.max_staleness is not None:
            self._check_asynchronous()
        elif self.concurrency is not None:
            raise ValueError("concurrency is how many are at work in an asynchronous run: give max-staleness too")
        if self.trim is not None and self.reducer != "trimmed-mean":
            raise ValueError("trim belongs to the reducer trimmed-mean")
        scores = [score.removeprefix("-") for score in (self.best or "").split(",")]
        if len(set(scores)) < len(scores):
            raise ValueError(f"best = {self.best!r} names a score twice")
        if self.over_norm is not None and self.max_norm is None:
            raise ValueError("over-norm says what becomes of an answer beyond max-norm; give max-norm")
        return self

    def _check_asynchronous(self) -> None:
        if self.kept_busy < self.cohort:
            raise ValueError(
                f"concurrency {self.concurrency} is smaller than cohort {self.cohort}: an exchange would wait for "
                "clients that nobody has asked"
            )
        if self.over_select > 1:
            raise ValueError("over-select belongs to rounds: an asynchronous run keeps `concurrency` clients at work")
        if self.reducer is not None and self.reducer != "mean":
            raise ValueError(
                f"{self.reducer} orders values and weighs none: an asynchronous run weighs answers by their staleness"
            )
        if self.max_bytes is not None or self.max_bytes_per_round is not None:
            raise ValueError(
                "max-bytes and max-bytes-per-round foretell a round from those before it; an asynchronous run has no "
                "rounds that end. Give max-bytes-per-day or max-bytes-per-month, or fewer rounds"
            )
        if self.best not in (None, "none"):
            raise ValueError(
                "best needs every model measured by a cohort; in an asynchronous run each is measured by whoever began "
                "from it. Leave best out"
            )

    @property
    def kept_busy(self) -> int:
        """How many clients an asynchronous run keeps at work."""
        return 2 * self.cohort if self.concurrency is None else self.concurrency

    @property
    def needed(self) -> int:
        """The quorum in force."""
        return self.cohort if self.quorum is None else self.quorum

    @property
    def present(self) -> int:
        """The number of present clients at which the run starts."""
        return self.cohort if self.min_clients is None else self.min_clients
