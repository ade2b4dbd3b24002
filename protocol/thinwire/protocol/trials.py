"""What `thinwire-client simulate` reads and writes: a line of JSON for each run, in and out."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from .settings import RunSettings

TRIAL_ID: Final = "simulate"
"""What plans call a run that nobody has made: as long as any other id."""


class TrialValue(BaseModel):
    """Base: unknown keys are errors, immutable."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TrialRequest(TrialValue):
    """A run to play. `share`: of each client's training examples. `follow`: each exchange is told when it is over, in
    a line of its own before that of the result. `model`: the file to write the final model to, if there is one.
    """

    run: RunSettings
    share: float = Field(1.0, gt=0, le=1)
    follow: bool = False
    model: Path | None = None


class TrialExchange(TrialValue):
    """One exchange of it. Bytes are those of payloads; `fetched` and `uploaded`: how many of them travel in requests of
    their own, since they do not fit into a message; `beside_bytes`: what parts take in messages beside their payloads,
    beyond one for each client. `newcomers`: clients that had taken part in none
    before; `plans`: fetched by those who had not had them, of `plan_bytes` together. `metrics`: example-weighted means,
    of the arrays it broadcast.
    """

    round: int
    step: int = 0
    kind: str
    clients: int
    uplink_bytes: int
    downlink_bytes: int
    fetched: int
    uploaded: int
    beside_bytes: int = 0
    newcomers: int = 0
    plans: int = 0
    plan_bytes: int = 0
    metrics: dict[str, float]


class TrialResult(TrialValue):
    """What came of it. `outcome`: diverged, training or answers went out of range; refused, the settings do not go
    with this task; `reason` says why. `plans`, `plan_bytes`: of a run that was foretold, not played, what each client
    fetches once. `seconds`: it took.
    """

    outcome: Literal["completed", "diverged", "refused"]
    reason: str = ""
    exchanges: list[TrialExchange] = []
    plans: int = 0
    plan_bytes: int = 0
    seconds: float = 0.0


class TrialPlace(TrialValue):
    """What is said before the first run: the task as all of them see it. `link`: bits per second up and down, and the
    seconds of a round trip, of the link that was asked about.
    """

    clients: int
    examples: int
    parameters: int
    link: tuple[float, float, float] | None = None
