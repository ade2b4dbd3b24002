"""Runs, exchanges, tasks and answers as the tables know them. Times are Unix seconds, but for what says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from thinwire.protocol.fields import RunOutcome, RunState
from thinwire.protocol.settings import RunSettings

from .best import Best
from .exchange import SlotState

RunCommand = Literal["pause", "pause-drop", "stop", "stop-drop", "resume"]


@dataclass(frozen=True, slots=True)
class RunRow:
    """`exchange`: the one that is open or comes next; `round`, `step`: of the state before it. `command`: not yet
    carried out. `damaged`: what the run needs on the disk cannot be read. `spec`: digest of the model that clients must
    have. `lineage`, `restored_at`: of a run that goes on from a backup, since this exchange. `unreadable`: what of its
    settings this version does not know; then `settings` are not those. `state_epoch`: what tells its checkpoint from
    those that leaders of before may have written. `best`: its best models so far, by score.
    """

    id: str
    name: str
    group: str
    settings: RunSettings
    spec: bytes | None
    parameters: int
    state: RunState
    outcome: RunOutcome | None
    reason: str | None
    command: RunCommand | None
    damaged: bool
    exchange: int
    round: int
    step: int
    model: bytes | None
    created_at: float
    finished_at: float | None
    lineage: str | None = None
    restored_at: int | None = None
    state_epoch: int | None = None
    best: tuple[Best, ...] = ()
    unreadable: str | None = None

    @property
    def finished(self) -> bool:
        """Whether the run is over."""
        return self.state == "finished"


@dataclass(frozen=True, slots=True)
class ExchangeRow:
    """`parts`: name, spec, full form, delta form of each part. `size`: the answers it closes at; `answers`: those that
    count so far. `seconds`: how long it has been open, `left_s`: what is left of its present offer, both as of
    `clock_at`. `lowered_bits`, `lowered_cohort`: where a budget has lowered them; `left_out`: client -> why a budget
    kept it from being asked. `staleness`: of an asynchronous run, how many answers were 0, 1, 2... exchanges old.
    """

    run: str
    exchange: int
    round: int
    step: int
    kind: str
    plan: bytes
    parts: list[Any]
    options: dict[str, Any] | None
    max_payload_bytes: int
    cohort: Literal["new", "same"]
    size: int
    offers: int
    seconds: float
    left_s: float | None
    clock_at: float
    closed: bool
    answers: int
    metrics: dict[str, float]
    opened_at: float | None
    closed_at: float | None
    state_epoch: int | None = None
    lowered_bits: int | None = None
    lowered_cohort: int | None = None
    left_out: dict[str, str] | None = None
    staleness: list[int] | None = None


LAPSED: Final = "lapsed"
"""The reason of a task whose client was not there to hear of it: the same may be offered to it again, and an answer of
it that comes all the same opens it again.
"""
STALE: Final = "stale"
"""The reason of a task that has become too old for an asynchronous run."""


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A slot of an exchange, as its client was asked. `private`: digest in hex, size in bytes and spec of the part for
    it alone. `reason`, `detail`: why it was refused or declined. `counted_in`: the exchange in which its answer counts,
    None where it does not, or was counted by a version whose runs had one for each task: its own.
    """

    id: str
    run: str
    exchange: int
    slot: int
    offer: int
    client: str
    state: SlotState
    private: list[Any] | None
    reason: str | None
    detail: str | None
    counted_in: int | None = None

    @property
    def lapsed(self) -> bool:
        """Whether its client was not there to hear of it."""
        return self.state == "late" and self.reason == LAPSED


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """An answer that has arrived. `digest`, `size`: of its payload, None and 0 without one. `state`, `exchange`: of its
    task.
    """

    task: str
    client: str
    slot: int
    offer: int
    examples: int
    metrics: Mapping[str, float]
    digest: bytes | None
    size: int
    state: SlotState
    exchange: int = 0
