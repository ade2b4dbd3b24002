"""Runs: what they start from, how they stand, what their exchanges measured."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from thinwire.protocol.fields import Count, Digest, Id, Message, Name, Plain, RunOutcome, RunState
from thinwire.protocol.settings import RunSettings


class StoredModel(Message):
    """The answer to `POST /v1/models`, whose body is a safetensors file: what the runs to come call it."""

    digest: Digest
    parameters: Count


class RunRequest(Message):
    """`POST /v1/runs`, by an operator. `model`: the digest of a stored model, whose arrays the run starts from."""

    settings: RunSettings
    model: Digest


class BestModel(Message):
    """The best of a run's models by this score, which clients have measured; `round` has made it, 0 for the first."""

    score: str
    value: float
    round: Count


class RunView(Message):
    """A run as operators see it. `reason`: why it is paused, stands still or has failed. `warnings`: what its method
    says about these settings. `waits_for`: of a single run that is running, the clients that have been asked and
    have not answered yet, the first 20 by name. `lowered`: what a budget has lowered of the open exchange; `left_out`:
    client -> the budget of its own that keeps it from being asked. Times are Unix seconds.
    """

    id: Id
    name: str
    method: str
    state: RunState
    outcome: RunOutcome | None = None
    reason: str | None = None
    round: Count
    step: Count
    rounds: Count
    exchange: Count
    answers: Count
    cohort: Count
    parameters: Count
    model: Digest | None = None
    best: list[BestModel] | None = None
    created_at: float
    finished_at: float | None = None
    warnings: list[str] | None = None
    waits_for: list[str] | None = None
    lowered: str | None = None
    left_out: dict[Name, str] | None = None
    settings: Plain


class RunList(Message):
    """`GET /v1/runs`, the newest first."""

    runs: list[RunView]


class RunCommand(Message):
    """`POST /v1/runs/{run}/pause | resume | stop`. `open`: whether the open exchange is finished first or dropped."""

    open: Literal["finish", "drop"] = "finish"


class RunChange(Message):
    """`POST /v1/runs/{run}/settings`, of a paused run: what is to be otherwise when it goes on; what is left out stays.
    `rounds`: more than before, where the method allows that.
    """

    rounds: int | None = Field(None, ge=1, le=1_000_000)
    quorum: int | None = Field(None, ge=1)
    deadline_s: float | None = Field(None, gt=0)
    max_bytes: int | None = Field(None, ge=1)
    max_bytes_per_round: int | None = Field(None, ge=1)
    max_bytes_per_day: int | None = Field(None, ge=1)
    max_bytes_per_month: int | None = Field(None, ge=1)


class ExchangeMetrics(Message):
    """One closed exchange. `metrics`: example-weighted means over the answers; accuracy and loss are of the arrays that
    the exchange broadcast. Byte counts are wire bytes of this run: of this exchange, the payload among them, and of all
    up to when its broadcast was complete (`*_before`): where its accuracy is plotted. `lowered`: what a budget has
    lowered of it, in words. `staleness`: of an asynchronous run, how many of the answers began 0, 1, 2... exchanges
    before it; then `metrics` are over the answers to its own tasks, in whichever exchange they count.
    """

    exchange: Count
    round: Count
    step: Count
    kind: str
    answers: Count
    offers: Count
    metrics: dict[str, float]
    seconds: float
    uplink_bytes: Count
    downlink_bytes: Count
    uplink_payload_bytes: Count
    downlink_payload_bytes: Count
    uplink_bytes_before: Count
    downlink_bytes_before: Count
    lowered: str | None = None
    staleness: list[Count] | None = None


class RunMetrics(Message):
    """`GET /v1/runs/{run}/metrics`, in order."""

    exchanges: list[ExchangeMetrics]
