"""The coordinator's own figures: what goes on at this moment, and what has crossed the wire."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import get_args

from thinwire.coordinator.objects.objects import Objects
from thinwire.coordinator.objects.partial import Partials
from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.ledger import Ledger
from thinwire.coordinator.records.runs import Runs
from thinwire.machine.workers import Workers
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.fields import RunState
from thinwire.protocol.messages import LedgerKind

from .presence import Presence


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is so at this moment. `runs`: by state; `disk_bytes`: by folder; `wire`: since the first start, by kind."""

    runs: Mapping[str, int]
    parked_clients: int
    open_exchanges: int
    disk_bytes: Mapping[str, int]
    wire: Mapping[LedgerKind, Bytes]


class Figures:
    """Looks when it is asked."""

    def __init__(
        self,
        runs: Runs,
        exchanges: Exchanges,
        ledger: Ledger,
        presence: Presence,
        objects: Objects,
        partials: Partials,
        workers: Workers,
    ) -> None:
        self._runs = runs
        self._exchanges = exchanges
        self._ledger = ledger
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
            wire=self._never_less(await self._ledger.kinds()),
        )

    def _never_less(self, kinds: Mapping[LedgerKind, Bytes]) -> dict[LedgerKind, Bytes]:
        """What was handed over and did not cross is taken off again; a counter that falls would read as a restart."""
        for kind, now in kinds.items():
            before = self._highest.get(kind, Bytes())
            self._highest[kind] = Bytes(*map(max, astuple(before), astuple(now)))
        return dict(self._highest)

    def _usage(self) -> dict[str, int]:
        return {**self._objects.usage(), "uploads": self._partials.usage()}
