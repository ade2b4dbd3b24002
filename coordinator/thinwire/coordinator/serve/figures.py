"""The coordinator's own figures: what goes on at this moment, and what has crossed the wire."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import Final, get_args

from thinwire.coordinator.objects.objects import Objects
from thinwire.coordinator.objects.partial import Partials
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.ledger import Ledger
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.runs.rows import RunRow
from thinwire.coordinator.runs.tally import Durations, Outcome, Tally
from thinwire.machine.workers import Workers
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.fields import RunState
from thinwire.protocol.messages import LedgerKind

from .presence import Presence

SHOWN_FOR_S: Final = 86_400.0
"""A run has figures of its own this long after its end: whoever looks once a minute has seen the last of it."""


@dataclass(frozen=True, slots=True)
class RunFigures:
    """A run that goes on, or was over a short time ago. `accuracy`: of the newest model that was measured, None where
    the last exchange measured none; `loss` likewise. `answers`, `exchanges`: since this process started.
    """

    name: str
    method: str
    state: RunState
    round: int
    rounds: int
    accuracy: float | None
    loss: float | None
    answers: Mapping[Outcome, int]
    answered_at: float | None
    exchanges: Durations


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is so at this moment. `runs`: by state; `disk_bytes`: by folder; `wire`: by kind, of this process alone."""

    runs: Mapping[str, int]
    parked_clients: int
    open_exchanges: int
    disk_bytes: Mapping[str, int]
    wire: Mapping[LedgerKind, Bytes]
    each_run: Sequence[RunFigures]


class Figures:
    """Looks when it is asked. `clock`: Unix seconds."""

    def __init__(
        self,
        runs: Runs,
        exchanges: Exchanges,
        ledger: Ledger,
        tally: Tally,
        presence: Presence,
        objects: Objects,
        partials: Partials,
        workers: Workers,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._runs = runs
        self._exchanges = exchanges
        self._ledger = ledger
        self._tally = tally
        self._clock = clock
        self._presence = presence
        self._objects = objects
        self._partials = partials
        self._workers = workers
        self._highest: dict[LedgerKind, Bytes] = {}

    async def gauges(self) -> Gauges:
        """Raises: `storage-failed`, OSError."""
        rows = await self._runs.all()
        states = Counter[str](row.state for row in rows)
        opened = [await self._exchanges.get(row.id, row.exchange) for row in rows if not row.finished]
        return Gauges(
            runs={state: states[state] for state in get_args(RunState)},
            parked_clients=self._presence.parked,
            open_exchanges=sum(exchange is not None for exchange in opened),
            disk_bytes=await self._workers.run(self._usage),
            wire=self._never_less(self._ledger.carried),
            each_run=[await self._of(row) for row in rows if self._is_shown(row)],
        )

    def _is_shown(self, row: RunRow) -> bool:
        return not row.finished or (row.finished_at or 0.0) > self._clock() - SHOWN_FOR_S

    async def _of(self, row: RunRow) -> RunFigures:
        last = await self._exchanges.get(row.id, row.exchange - 1) if row.exchange else None
        metrics = {} if last is None else last.metrics
        return RunFigures(
            name=row.name,
            method=row.settings.method,
            state=row.state,
            round=min(row.round, row.settings.rounds),
            rounds=row.settings.rounds,
            accuracy=metrics.get("accuracy", metrics.get("dice")),
            loss=metrics.get("loss"),
            answers=dict(self._tally.answers.get(row.id, {})),
            answered_at=self._tally.answered_at.get(row.id),
            exchanges=self._tally.exchanges.get(row.id, Durations()),
        )

    def _never_less(self, kinds: Mapping[LedgerKind, Bytes]) -> dict[LedgerKind, Bytes]:
        """What was handed over and did not cross is taken off again; a counter that falls would read as a restart."""
        for kind, now in kinds.items():
            before = self._highest.get(kind, Bytes())
            self._highest[kind] = Bytes(*map(max, astuple(before), astuple(now)))
        return dict(self._highest)

    def _usage(self) -> dict[str, int]:
        return {**self._objects.usage(), "uploads": self._partials.usage()}
