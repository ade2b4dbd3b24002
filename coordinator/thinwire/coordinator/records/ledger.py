"""Bytes by run, client, exchange and kind, as the transport counted them: differences in memory until they are added to
the rows, so that no crash counts a byte twice. Every sum is the database's, or was once and is kept up to date.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Container, Iterator
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, exists, or_, select

from thinwire.coordinator.wire.accounting import Account, Bill, Key
from thinwire.coordinator.wire.listing import Listing
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import LedgerKind, LedgerRow, LinkRow
from thinwire.protocol.reasons import ProblemError

from .database import Database
from .ledger_adding import add, number_of, values_of
from .ledger_rows import (
    SUMS,
    Extent,
    block,
    client_extent,
    client_sums,
    exchange_of,
    extent,
    idle_rows,
    kind_sums,
)
from .links import SETTLED_S, Counts, Links
from .tables import ledger, links

_Read = Callable[[Connection, Extent, LedgerRow | None], list[LedgerRow]]
_MOST_RUNS: Final = 64
"""Whose sums by exchange are kept, of those that somebody has asked for."""
_NOTHING: Final = Bytes()
_PLACES: Final = {"run": 0, "client": 1, "exchange": 2, "kind": 3}


class Ledger:
    """The books of the transport, and what they say. One event loop uses it. `clock`: Unix seconds; `is_shared`:
    whether other processes charge too.

    What cannot be stored stays in memory and counts: a full disk keeps nobody from reading. Every question raises
    `storage-failed`.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time, *, is_shared: bool = True) -> None:
        self._database = database
        self._clock = clock
        self._carried: defaultdict[LedgerKind, Bytes] = defaultdict(Bytes)
        self._is_shared = is_shared
        self._fresh: dict[Key, Bytes] = {}
        self._links = Links(SETTLED_S if is_shared else 0.0)
        self._open: dict[int, tuple[Bill, Callable[[], Bytes]]] = {}
        self._storing = asyncio.Lock()
        self._flushes: set[asyncio.Task[None]] = set()
        self._totals: dict[str, dict[int | None, Bytes]] = {}

    # -- what the transport tells -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def while_open(self, bill: Bill, uncharged: Callable[[], Bytes]) -> Iterator[None]:
        """A request that is being served: what it has carried so far is charged at its end."""
        self._open[id(bill.account)] = bill, uncharged
        try:
            yield
        finally:
            del self._open[id(bill.account)]

    def uncharged(self, run: str, of: Container[int | None]) -> int:
        """Bytes of open requests that belong to these exchanges of a run, as far as it is known."""
        mine = (
            uncharged
            for bill, uncharged in self._open.values()
            if bill.account.run == run and bill.account.exchange in of
        )
        return sum(uncharged().wire for uncharged in mine)

    def record(self, key: Key, value: Bytes) -> None:
        """Adds to the row of this key."""
        self._carried[key[3]] += value
        self._links.charge(key[1], value)
        self._keep(key, value)
        totals = self._totals.get(key[0])
        if totals is not None:
            totals[key[2]] = totals.get(key[2], _NOTHING) + value

    def _keep(self, key: Key, value: Bytes) -> None:
        before = self._fresh.get(key)
        self._fresh[key] = value if before is None else before + value

    @property
    def carried(self) -> dict[LedgerKind, Bytes]:
        """All bytes of this process by kind, since it began, stored or not."""
        return dict(self._carried)

    def report_link(self, client: str, sent: int, received: int, account: Account | None = None) -> None:
        """What the client's own kernel has counted by now, before the request with this account that says so. What the
        ledger lacks of it becomes a row of the kind `unaccounted`. An older report that comes later changes nothing.
        """
        up, down = self._links.charged(client)
        for bill, uncharged in self._open.values():
            if bill.account.client == client:
                mine = bill.charged_to(client) if bill.account is account else Bytes() - uncharged()
                up, down = up - mine.uplink, down - mine.downlink
        self._links.say(client, Counts(sent, received, (up, down), self._clock()))

    async def flush(self) -> None:
        """Stores what has come since the last call. Raises: `storage-failed`, `storage-full`; then nothing is lost."""
        # Whoever gives up waiting must not leave it open whether the rows were stored.
        flushing = asyncio.create_task(self._flush(), name="ledger-flush")
        self._flushes.add(flushing)
        flushing.add_done_callback(self._flushes.discard)
        flushing.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.shield(flushing)

    async def _flush(self) -> None:
        async with self._storing:
            await self._store()

    async def _store(self) -> None:
        now = self._clock()
        fresh, self._fresh = self._fresh, {}
        told, self._links.fresh = self._links.fresh, {}
        settled = self._links.settled(now)
        if not fresh and not told and not settled:
            return
        try:
            await self._database.transaction(lambda connection: add(connection, fresh, told, settled, now))
        except BaseException:
            for key, value in fresh.items():
                self._keep(key, value)
            for client, counts in told.items():
                self._links.keep(client, counts)
            self._links.put_back(settled)
            raise

    # -- questions --------------------------------------------------------------------------------------------

    async def exchanges(self, run: str) -> dict[int | None, Bytes]:
        """All bytes of a run by exchange; None for those that belong to none."""
        if self._is_shared:
            sums = await self._sums("exchange", run=run)
            return {exchange_of(number): value for number, value in sums.items()}
        totals = self._totals.get(run)
        return dict(await self._total(run) if totals is None else totals)

    async def _total(self, run: str) -> dict[int | None, Bytes]:
        """Read once; kept up to date by `record` from now on, since nobody else writes."""
        query = select(ledger.c.exchange, *SUMS).where(ledger.c.run == run).group_by(ledger.c.exchange)
        async with self._storing:  # else what is being stored would be missing
            rows = await self._database.read(lambda connection: connection.execute(query).all())
            totals = {exchange_of(row[0]): Bytes(*row[1:]) for row in rows}
            for key, value in self._fresh.items():
                if key[0] == run:
                    totals[key[2]] = totals.get(key[2], _NOTHING) + value
            while len(self._totals) >= _MOST_RUNS:
                del self._totals[next(iter(self._totals))]
            self._totals[run] = totals
        return totals

    async def clients_in(self, run: str, exchanges: Collection[int]) -> dict[str, int]:
        """Wire bytes of the clients of these exchanges of a run."""
        found: defaultdict[str, int] = defaultdict(int)
        for exchange in exchanges:
            for name, value in (await self._sums("client", run=run, exchange=exchange)).items():
                if name:
                    found[name] += value.wire
        return dict(found)

    async def client(self, name: str) -> Bytes:
        """All bytes of one client, of whatever run."""
        return (await self._sums("client", client=name)).get(name, Bytes())

    async def clients_of(self, run: str) -> list[str]:
        """The clients that have spent bytes on this run, sorted."""
        return sorted(name for name in await self._sums("client", run=run) if name)

    async def links(self, run: str) -> list[LinkRow]:
        """What the run's clients have reported of their links, beside all the bytes that are theirs, by client."""
        names, counted = await self.clients_of(run), await self._sums("client", of_run=run, but="unaccounted")
        query = select(links.c.client, links.c.sent_bytes, links.c.received_bytes).where(
            exists().where(ledger.c.run == run, ledger.c.client == links.c.client),
            or_(links.c.sent_bytes > 0, links.c.received_bytes > 0),
        )
        told = {name: counts for name, *counts in await self._database.read(lambda one: one.execute(query).all())}
        for name, counts in self._links.fresh.items():
            if not any(counts):
                continue
            told[name] = list(map(max, told.get(name, counts), counts))
        return [
            LinkRow(
                client=name, sent_bytes=told[name][0], received_bytes=told[name][1],
                uplink_bytes=counted[name].uplink, downlink_bytes=counted[name].downlink,
            )
            for name in names
            if name in told
        ]  # fmt: skip

    async def rows(self, run: str) -> Listing[LedgerRow]:
        """The run's rows, and those of its clients that belong to no run (enrolment, connections, idle polls), in the
        order of client, exchange and kind: those that there are now, each as it stands when its block is read.

        Before them comes what could not be stored, as rows of its own.
        """
        return await self._listing(run, extent, block)

    async def client_sums(self, run: str) -> Listing[LedgerRow]:
        """The same, summed by client and kind."""
        return await self._listing(run, client_extent, client_sums)

    async def kind_sums(self, run: str) -> list[LedgerRow]:
        """The same, summed by kind; what could not be stored apart."""
        fresh = await self._unstored(run)
        return fresh + await self._database.read(partial(kind_sums, run=run))

    async def _listing(
        self,
        run: str,
        measure: Callable[[Connection, str], Extent],
        read: _Read,
    ) -> Listing[LedgerRow]:
        fresh = await self._unstored(run)
        of = await self._database.read(lambda connection: measure(connection, run))

        async def blocks() -> AsyncIterator[list[LedgerRow]]:
            if fresh:
                yield fresh
            last: LedgerRow | None = None
            while found := await self._database.read(partial(_call, read, of, last)):
                yield found
                last = found[-1]

        return Listing(of.rows + len(fresh), blocks())

    async def _unstored(self, run: str) -> list[LedgerRow]:
        """What of the run cannot be stored now, if anything; with what is stored of clients whose part in the run is
        not.
        """
        try:
            await self.flush()
        except ProblemError:
            members = await self.clients_of(run)
            async with self._storing:  # else what is being stored would be missing
                fresh = list(self._fresh.items())
            mine = [one for one in fresh if one[0][0] == run or (not one[0][0] and one[0][1] in members)]
            newcomers = {key[1] for key, _ in mine if key[0] == run and key[1]}
            stored = await self._database.read(partial(idle_rows, run=run, clients=newcomers))
            return [*(_row(*one) for one in mine), *stored]
        return []

    async def _sums(
        self, by: str, *, of_run: str | None = None, but: LedgerKind | None = None, **where: str | int
    ) -> dict[Any, Bytes]:
        """Sums of the rows with these values, by the value of a column; `of_run`: at least those of its clients; `but`:
        without those of a kind.
        """
        query = select(ledger.c[by], *SUMS).where(*(ledger.c[name] == value for name, value in where.items()))
        if of_run is not None:
            query = query.where(ledger.c.client.in_(select(ledger.c.client).where(ledger.c.run == of_run)))
        if but is not None:
            query = query.where(ledger.c.kind != but)

        def work(connection: Connection) -> dict[Any, Bytes]:
            return {row[0]: Bytes(*row[1:]) for row in connection.execute(query.group_by(ledger.c[by]))}

        try:
            await self.flush()
        except ProblemError:
            # Nothing is stored between the reading and the adding.
            async with self._storing:
                sums = defaultdict(Bytes, await self._database.read(work))
                for key, value in self._fresh.items():
                    if key[3] != but and all(key[_PLACES[name]] == wanted for name, wanted in where.items()):
                        sums[number_of(key[2]) if by == "exchange" else key[_PLACES[by]]] += value
                return dict(sums)
        return await self._database.read(work)


def _row(key: Key, value: Bytes) -> LedgerRow:
    """A row of what could not be stored; what is to be taken off a stored row shows only when it can be."""
    positive = {
        name: max(0, count) if isinstance(count, int) else count for name, count in values_of(key, value).items()
    }
    return LedgerRow.model_validate({**positive, "exchange": key[2]})


def _call(read: _Read, of: Extent, behind: LedgerRow | None, connection: Connection) -> list[LedgerRow]:
    return read(connection, of, behind)
