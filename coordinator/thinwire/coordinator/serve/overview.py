"""What the pages show of runs: all of them at a glance, one of them whole, some of them beside each other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from thinwire.coordinator.records.progress import Point, Progress
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.runs.definitions import Definitions
from thinwire.coordinator.runs.rows import RunRow
from thinwire.methods.registry import find_method
from thinwire.methods.rounds import (
    ACCURACY,
    Round,
    accuracy_of,
    is_lower_better,
    measured_scores,
    own_score,
    own_scores,
    rounds_of,
)
from thinwire.methods.values import EVALUATE
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import AttendanceList, ExchangeMetrics, LedgerRow, RunView
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

from .attendance import LATEST, Attendances, Timeline
from .comparing import MOST_COMPARED, Comparison, compared, drawn
from .reads import Reads

RUNS_A_PAGE: Final = 50
POINTS: Final = 60
"""Of a small curve."""
CLIENTS_SHOWN: Final = 40


@dataclass(frozen=True, slots=True)
class Glance:
    """A run among others. `score`: what it is judged by: accuracy, where it is measured, or else the task's own, or the
    loss; `newest`: the newest one measured, `best` the best of the latest `POINTS` exchanges, `curve` all of these.
    `changed_at`: when its state was last told, Unix seconds.
    """

    run: RunView
    score: str
    newest: float | None
    best: float | None
    curve: list[float]
    uplink_bytes: int
    downlink_bytes: int
    framing_bytes: int
    max_bytes: int | None
    changed_at: float | None


@dataclass(frozen=True, slots=True)
class Overview:
    """One page of all runs, the newest first; pages count from 1."""

    runs: list[Glance]
    page: int
    pages: int
    total: int


@dataclass(frozen=True, slots=True)
class ChainsOf:
    """The chains of one kind of exchange, as text."""

    kind: str
    down: str
    up: str
    full: str
    private: str


@dataclass(frozen=True, slots=True)
class Detail:
    """One run. `rounds`: as `rounds_of` has them, thinned out where they are many; `spent_bytes`: of its exchanges and
    of what belongs to none of them; `forecast_bytes`: what it will have cost at its end, if its rounds go on to cost
    what the last ones did, None where no round is over or the run is. `exchanges`: the latest closed ones. `scores`:
    what its models were measured by, what it is judged by first.
    """

    run: RunView
    scores: list[str]
    rounds: list[dict[str, Any]]
    exchanges: list[ExchangeMetrics]
    attendance: AttendanceList
    timeline: Timeline | None
    kinds: list[LedgerRow]
    chains: list[ChainsOf]
    spent_bytes: int
    forecast_bytes: int | None
    max_bytes: int | None
    seconds_left: float | None


class Overviews:
    """Views of rows as of now. Everything raises `storage-failed`."""

    def __init__(
        self, runs: Runs, progress: Progress, reads: Reads, attendances: Attendances, definitions: Definitions
    ) -> None:
        self._runs = runs
        self._progress = progress
        self._reads = reads
        self._attendances = attendances
        self._definitions = definitions

    async def runs(self, page: int = 1) -> Overview:
        """A page of runs; a page that is not there is the nearest one."""
        rows = sorted(await self._runs.all(), key=lambda row: row.created_at, reverse=True)
        pages = max(1, -(-len(rows) // RUNS_A_PAGE))
        page = min(max(1, page), pages)
        shown = rows[(page - 1) * RUNS_A_PAGE : page * RUNS_A_PAGE]
        ids = [row.id for row in shown]
        views = await asyncio.gather(*map(self._reads.view, shown))
        curves, spent = await self._progress.curves(ids, POINTS), await self._progress.spent(ids)
        changed = await self._progress.changed_at(ids)
        glances = [
            _glance(row, view, curves[row.id], spent.get(row.id, Bytes()), changed.get(row.id))
            for row, view in zip(shown, views, strict=True)
        ]
        return Overview(glances, page, pages, len(rows))

    async def run(self, key: str, exchange: int | None = None) -> Detail:
        """One run, with the timeline of an exchange: the newest unless said otherwise. Raises: `run-not-found`."""
        row = await self._runs.find(key)
        view = await self._reads.run(row.id)
        metrics = await self._metrics(row.id)
        kinds = [one async for block in (await self._reads.ledger(row.id, "kind"))[0].blocks for one in block]
        rounds = rounds_of(metrics)
        spent = (await self._progress.spent([row.id])).get(row.id, Bytes()).wire
        return Detail(
            run=view,
            scores=measured_scores(rounds, row.settings.best),
            rounds=drawn(rounds),
            exchanges=metrics[-LATEST:],
            attendance=await self._attendances.of(row.id),
            timeline=await self._attendances.timeline(row.id, exchange, CLIENTS_SHOWN),
            kinds=kinds,
            chains=self._chains(row),
            spent_bytes=spent,
            forecast_bytes=None if row.finished else forecast(rounds, row.settings, spent),
            max_bytes=row.settings.max_bytes,
            seconds_left=None if row.state != "running" else seconds_left(rounds, row.settings.rounds),
        )

    async def forecast(self, run: str) -> int | None:
        """Wire bytes of the run at its end, as `Detail` has them. Raises: `run-not-found`."""
        row = await self._runs.find(run)
        if row.finished:
            return None
        spent = (await self._progress.spent([row.id])).get(row.id, Bytes()).wire
        return forecast(rounds_of(await self._metrics(row.id)), row.settings, spent)

    async def compare(self, keys: Sequence[str], target: float | None, score: str | None = None) -> Comparison:
        """These runs, at most `MOST_COMPARED`, in the order given. `score`: what they are compared by; None, or one
        that none of them has: what the baseline is judged by. Raises: `run-not-found`.
        """
        choice = [row.name for row in sorted(await self._runs.all(), key=lambda row: row.created_at, reverse=True)]
        found = []
        for key in dict.fromkeys(keys[:MOST_COMPARED]):
            view = await self._reads.run(key)
            found.append((view, rounds_of(await self._metrics(view.id)), not find_method(view.method).shared_model))
        return compared(found, target, score, choice)

    async def _metrics(self, run: str) -> list[ExchangeMetrics]:
        return [one async for block in (await self._reads.metrics(run)).blocks for one in block]

    def _chains(self, row: RunRow) -> list[ChainsOf]:
        try:
            definition = self._definitions.of(row)
        except ProblemError:  # this version does not know its method
            return []
        kinds = definition.method.chains(definition.settings)
        found = {kind: definition.written(kind) for kind in (*kinds, *([EVALUATE] if row.settings.evaluate else []))}
        return [ChainsOf(kind, str(c.down), str(c.up), str(c.full), str(c.private)) for kind, c in found.items()]


def _glance(row: RunRow, view: RunView, points: Iterable[Point], spent: Bytes, changed_at: float | None) -> Glance:
    measured = [one.metrics for one in points]
    first = own_score(row.settings.best)
    score, curve = ACCURACY, [found for one in measured if (found := accuracy_of(one)) is not None]
    if first is not None and any(first in one for one in measured):
        score, curve = first, [one[first] for one in measured if first in one]
    elif not curve:
        names = sorted({name for one in measured for name in own_scores(one)})
        score = names[0] if names else "loss" if any("loss" in one for one in measured) else ACCURACY
        curve = [one[score] for one in measured if score in one]
    best = min(curve, default=None) if is_lower_better(score) else max(curve, default=None)
    return Glance(
        view, score, curve[-1] if curve else None, best, curve, spent.uplink, spent.downlink,
        spent.framing, row.settings.max_bytes, changed_at,
    )  # fmt: skip


def _last(rounds: Sequence[Round], count: int = 3) -> list[Round]:
    """The last rounds that cost something; the first one alone also carries the model whole to everybody."""
    paid = [one for one in rounds if one.round and one.cost.wire]
    return paid[1:][-count:] or paid


def forecast(rounds: Sequence[Round], run: RunSettings, spent: int) -> int | None:
    """Wire bytes of the whole run, if the rounds to come cost what the last three did, and its evaluation their way
    down.
    """
    last = _last(rounds)
    if not last:
        return None
    left = max(0, run.rounds - rounds[-1].round) * sum(one.cost.wire for one in last)
    final = sum(one.cost.downlink for one in last) if run.evaluate else 0
    return spent + round((left + final) / len(last))


def seconds_left(rounds: Sequence[Round], wanted: int) -> float | None:
    """Until the end of the run, if the rounds to come take what the last three did."""
    last = _last(rounds)
    if not last:
        return None
    return max(0, wanted - rounds[-1].round) * sum(one.cost.seconds for one in last) / len(last)
