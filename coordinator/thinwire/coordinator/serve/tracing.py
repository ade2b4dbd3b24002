"""Traces of rounds: their exchanges, and in these the clients' answers, from the rows of what is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import structlog

from thinwire.coordinator.records.events import Event, Events
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.leases import Leases
from thinwire.coordinator.records.ledger import Ledger
from thinwire.coordinator.records.participation import Effort, Participation
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.runs.rows import ExchangeRow, RunRow
from thinwire.methods.values import EVALUATE
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.reasons import ProblemError

if TYPE_CHECKING:
    from .otlp import Sending, Span

LOOK_S: Final = 1.0
MOST_ANSWERS: Final = 1000
"""Of one exchange that have spans."""
_LEASE: Final = "traces"
_AT_ONCE: Final = 100
_log = structlog.get_logger("thinwire.coordinator")


def sending_to(url: str) -> Sending:
    """Raises: `unavailable`: the SDK is not installed."""
    try:
        from .otlp import Sending
    except ImportError as error:
        raise ProblemError("unavailable", f"pip install 'thinwire[otlp]' ({error})") from None
    return Sending(url, version("thinwire"))


class Tracing:
    """Follows the events of all runs from its start on; of several processes one tells. `holder`, `lease_s`: as a
    leader's.
    """

    def __init__(
        self,
        sending: Sending,
        events: Events,
        runs: Runs,
        exchanges: Exchanges,
        participation: Participation,
        ledger: Ledger,
        leases: Leases,
        holder: str,
        lease_s: float | None,
    ) -> None:
        self._sending = sending
        self._events = events
        self._runs = runs
        self._exchanges = exchanges
        self._participation = participation
        self._ledger = ledger
        self._leases = leases
        self._holder = holder
        self._lease_s = lease_s
        self._last: int | None = None

    async def trace(self) -> None:
        """Until cancelled."""
        while True:
            await self._go_on()
            await asyncio.sleep(LOOK_S)

    async def finish(self) -> None:
        """What has happened since the last look is told, and what is queued is sent."""
        await self._go_on()
        await asyncio.to_thread(self._sending.close)

    async def _go_on(self) -> None:
        try:
            self._last = await self._events.last_id() if self._last is None else await self._look(self._last)
        except ProblemError as error:
            _log.error("nothing is traced", error=str(error))

    async def _look(self, last: int) -> int:
        """The id of the last event that has been looked at. Raises: `storage-failed`, `storage-full`."""
        events = await self._events.after_any(last, _AT_ONCE)
        closed = [event for event in events if event.kind == "exchange"]
        if closed and await self._leases.acquire(_LEASE, self._holder, self._lease_s) is not None:
            for event in closed:
                for span in await self._spans(event):
                    self._sending.send(span)
        return events[-1].id if events else last

    async def _spans(self, event: Event) -> list[Span]:
        if event.exchange is None:
            return []
        row = await self._exchanges.get(event.run, event.exchange)
        try:
            run = await self._runs.get(event.run)
        except ProblemError:  # deleted meanwhile
            return []
        if row is None or row.closed_at is None or row.opened_at is None:
            return []
        after = await self._exchanges.get(event.run, event.exchange + 1)
        efforts = await self._participation.efforts(row.run, row.exchange, MOST_ANSWERS)
        spent = (await self._ledger.exchanges(row.run)).get(row.exchange, Bytes())
        found = [_of_exchange(run, row, spent, efforts), *_of_answers(run, row, efforts)]
        if after is None:
            over = run.finished or run.round != row.round
        else:
            over = after.kind == EVALUATE or after.round != row.round
        if over or row.kind == EVALUATE:
            first = await self._first(row)
            found.append(_of_round(run, row, first, row.closed_at))
        return found

    async def _first(self, row: ExchangeRow) -> ExchangeRow:
        """The exchange with which the round of this one began."""
        first = row
        while first.exchange > 0 and row.kind != EVALUATE:
            before = await self._exchanges.get(row.run, first.exchange - 1)
            if before is None or before.round != row.round:
                break
            first = before
        return first


def _of_round(run: RunRow, row: ExchangeRow, first: ExchangeRow, ended_at: float) -> Span:
    from .otlp import Span

    title = "evaluation" if row.kind == EVALUATE else "round"
    said = {**_of_run(run), "thinwire.round": row.round}
    return Span(_trace(row), "round", title, first.opened_at or ended_at, ended_at, None, said)


def _of_exchange(run: RunRow, row: ExchangeRow, spent: Bytes, efforts: list[Effort]) -> Span:
    from .otlp import Span

    said: dict[str, Any] = {
        **_of_run(run), "thinwire.round": row.round, "thinwire.step": row.step, "thinwire.exchange": row.exchange,
        "thinwire.kind": row.kind, "thinwire.answers": row.answers, "thinwire.asked": len(efforts),
        "thinwire.offers": row.offers, "thinwire.uplink_bytes": spent.uplink,
        "thinwire.downlink_bytes": spent.downlink,
        **{f"thinwire.metric.{name}": value for name, value in row.metrics.items()},
    }  # fmt: skip
    opened, closed = row.opened_at or 0.0, row.closed_at or 0.0
    return Span(_trace(row), f"exchange {row.exchange}", "exchange", opened, closed, "round", said)


def _of_answers(run: RunRow, row: ExchangeRow, efforts: list[Effort]) -> Iterator[Span]:
    from .otlp import Span

    opened, closed = row.opened_at or 0.0, row.closed_at or 0.0
    for one in efforts:
        said: dict[str, Any] = {
            **_of_run(run), "thinwire.client": one.client, "thinwire.state": one.state,
            "thinwire.download_s": one.download_s, "thinwire.upload_s": one.upload_s,
            "thinwire.train_s": one.metrics.get("seconds", 0.0),
        }  # fmt: skip
        ended = closed if one.arrived_at is None else one.arrived_at
        error = None if one.state == "accepted" else one.state
        name, around = f"answer {row.exchange} {one.client}", f"exchange {row.exchange}"
        yield Span(_trace(row), name, "answer", opened, ended, around, said, error)


def _of_run(run: RunRow) -> dict[str, Any]:
    return {"thinwire.run": run.name, "thinwire.run_id": run.id, "thinwire.method": run.settings.method}


def _trace(row: ExchangeRow) -> str:
    return f"{row.run}/{'evaluation' if row.kind == EVALUATE else row.round}"
