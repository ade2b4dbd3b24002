"""What operators read: runs, their exchanges and bytes, clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal

from thinwire.coordinator.records.exchanges import Exchanges
from thinwire.coordinator.records.ledger import Ledger
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.records.tasks import Tasks
from thinwire.coordinator.records.troubles import Troubles
from thinwire.coordinator.runs.definitions import Definitions
from thinwire.coordinator.runs.rows import ExchangeRow, RunRow
from thinwire.coordinator.runs.views import exchange_metrics, run_view
from thinwire.coordinator.wire.listing import Listing, in_one_block
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import ClientList, ClientView, ExchangeMetrics, LedgerRow, LinkRow, RunList, RunView
from thinwire.protocol.reasons import ProblemError

from .enrolment import Enrolment
from .presence import Presence

Sums = Literal["client", "kind"]
SHOWN: Final = 20
"""Clients that a run's view names at most."""


class Reads:
    """Views of rows as of now. Everything raises `storage-failed`. `called`: what people call the client of a name."""

    def __init__(
        self,
        runs: Runs,
        exchanges: Exchanges,
        tasks: Tasks,
        ledger: Ledger,
        troubles: Troubles,
        definitions: Definitions,
        enrolment: Enrolment,
        presence: Presence,
        called: Callable[[str], str] = str,
    ) -> None:
        self._called = called
        self._runs = runs
        self._exchanges = exchanges
        self._tasks = tasks
        self._ledger = ledger
        self._troubles = troubles
        self._definitions = definitions
        self._enrolment = enrolment
        self._presence = presence

    async def runs(self) -> RunList:
        """All runs, the newest first."""
        rows = sorted(await self._runs.all(), key=lambda row: row.created_at, reverse=True)
        return RunList(runs=list(await asyncio.gather(*map(self.view, rows))))

    async def run(self, key: str) -> RunView:
        """One run, by id or name. Raises: `run-not-found`."""
        row = await self._runs.find(key)
        view = await self.view(row)
        if row.state != "running":
            return view
        missing = await self._tasks.unanswered(
            row.id, row.exchange - (row.settings.max_staleness or 0), row.exchange, SHOWN
        )
        return view.model_copy(update={"waits_for": list(map(self._called, missing))})

    async def find(self, key: str) -> RunRow:
        """The same as a row. Raises: `run-not-found`."""
        return await self._runs.find(key)

    async def view(self, row: RunRow) -> RunView:
        """The run as operators see it."""
        opened = None if row.finished else await self._exchanges.get(row.id, row.exchange)
        try:
            definition = self._definitions.of(row)
        except ProblemError:  # this version does not know its method: what is known is shown
            definition = None
        return run_view(row, definition, opened, self._troubles.of(row.id))

    async def metrics(self, key: str) -> Listing[ExchangeMetrics]:
        """Every closed exchange of a run, in order. Raises: `run-not-found`."""
        run = (await self._runs.find(key)).id
        count, closed = await self._exchanges.closed(run)
        return Listing(count, _with_bytes(closed, await self._ledger.exchanges(run)))

    async def exchange(self, run: str, exchange: int) -> ExchangeMetrics | None:
        """One closed exchange of a run."""
        row = await self._exchanges.get(run, exchange)
        if row is None or not row.closed:
            return None
        spent = await self._ledger.exchanges(run)
        before = Bytes.sum(value for number, value in spent.items() if number is not None and number < exchange)
        return exchange_metrics(row, spent.get(exchange, Bytes()), before)

    async def ledger(self, key: str, sums: Sums | None) -> tuple[Listing[LedgerRow], Listing[LinkRow]]:
        """All bytes of a run, row by row or summed, and what its clients' kernels counted, but where kinds are summed.

        Raises: `run-not-found`.
        """
        run = (await self._runs.find(key)).id
        if sums == "kind":
            rows = await self._ledger.kind_sums(run)
            return Listing(len(rows), in_one_block(rows)), Listing(0, in_one_block([]))
        links = await self._ledger.links(run)
        listed = await (self._ledger.client_sums(run) if sums == "client" else self._ledger.rows(run))
        return listed, Listing(len(links), in_one_block(links))

    async def clients(self) -> ClientList:
        """All clients, by name."""
        seen_at = await self._presence.seen_at()
        return ClientList(
            clients=[
                ClientView(
                    client=name,
                    group=client.group,
                    role=client.role,
                    revoked=client.revoked,
                    seen_at=seen_at.get(name),
                    label=client.label,
                )
                for name, client in sorted(self._enrolment.clients.items())
            ]
        )


async def _with_bytes(
    closed: AsyncIterator[list[ExchangeRow]], spent: dict[int | None, Bytes]
) -> AsyncIterator[list[ExchangeMetrics]]:
    before, done = Bytes(), -1
    async for block in closed:
        found = []
        for row in block:
            for exchange in range(done + 1, row.exchange):
                before += spent.get(exchange, Bytes())
            of = spent.get(row.exchange, Bytes())
            found.append(exchange_metrics(row, of, before))
            before, done = before + of, row.exchange
        yield found
