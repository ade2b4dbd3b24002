"""Bytes by run, client, exchange and kind, as the transport counted them: differences in memory until they are added to
the rows, so that no crash counts a byte twice. Every sum is the database's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Container, Iterator
from functools import cache, partial
from typing import Any, Final

from sqlalchemy import Connection, Executable, and_, case, cast, exists, func, literal, select, text, tuple_, union_all

from thinwire.coordinator.wire.accounting import Account, Key
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import LedgerKind, LedgerRow, LinkRow
from thinwire.protocol.reasons import ProblemError

from .database import Database, upsert_in
from .tables import exchanges, ledger, links

BLOCK: Final = 1000
"""Rows that are read at once."""
_NOBODY: Final = -1  # the exchange of rows that belong to none: NULL would not be unique
_COUNTS: Final = (
    ledger.c.requests, ledger.c.uplink_payload_bytes, ledger.c.uplink_framing_bytes, ledger.c.downlink_payload_bytes,
    ledger.c.downlink_framing_bytes, ledger.c.resumed_bytes, ledger.c.seconds,
)  # fmt: skip
_SUMS: Final = tuple(cast(func.coalesce(func.sum(count), 0), count.type) for count in _COUNTS)
_ORDER: Final = (ledger.c.client, ledger.c.exchange, ledger.c.kind, ledger.c.run)
_Place = tuple[str, int, str, str]
"""The values of `_ORDER` in one row."""
_PLACES: Final = {"run": 0, "client": 1, "exchange": 2, "kind": 3}


class Ledger:
    """The books of the transport, and what they say. One event loop uses it.

    What cannot be stored stays in memory and counts: a full disk keeps nobody from reading. Every question raises
    `storage-failed`.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._fresh: dict[Key, Bytes] = {}
        self._fresh_links: dict[str, tuple[int, int]] = {}
        self._open: dict[int, tuple[Account, Callable[[], int]]] = {}
        self._storing = asyncio.Lock()
        self._flushes: set[asyncio.Task[None]] = set()

    # -- what the transport tells -----------------------------------------------------------------------------

    @contextlib.contextmanager
    def while_open(self, account: Account, uncharged: Callable[[], int]) -> Iterator[None]:
        """A request that is being served: what it has carried so far is charged at its end."""
        self._open[id(account)] = account, uncharged
        try:
            yield
        finally:
            del self._open[id(account)]

    def uncharged(self, run: str, of: Container[int | None]) -> int:
        """Bytes of open requests that belong to these exchanges of a run, as far as it is known."""
        return sum(uncharged() for one, uncharged in self._open.values() if one.run == run and one.exchange in of)

    def record(self, key: Key, value: Bytes) -> None:
        """Adds to the row of this key."""
        before = self._fresh.get(key)
        self._fresh[key] = value if before is None else before + value

    def report_link(self, client: str, sent: int, received: int) -> None:
        """What the client's own kernel has counted by now; an older report that comes later changes nothing."""
        before = self._fresh_links.get(client, (0, 0))
        self._fresh_links[client] = max(before[0], sent), max(before[1], received)

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
        fresh, self._fresh = self._fresh, {}
        told, self._fresh_links = self._fresh_links, {}
        if not fresh and not told:
            return
        try:
            await self._database.transaction(lambda connection: _add(connection, fresh, told))
        except BaseException:
            for key, value in fresh.items():
                self.record(key, value)
            for client, counts in told.items():
                self.report_link(client, *counts)
            raise

    # -- questions --------------------------------------------------------------------------------------------

    async def exchanges(self, run: str) -> dict[int | None, Bytes]:
        """All bytes of a run by exchange; None for those that belong to none."""
        sums = await self._sums("exchange", run=run)
        return {_exchange(number): value for number, value in sums.items()}

    async def before(self, run: str, exchange: int) -> Bytes:
        """All bytes of the run's exchanges before this one: what its broadcast had cost when it was complete."""
        sums = await self.exchanges(run)
        return Bytes.sum(value for of, value in sums.items() if of is not None and of < exchange)

    async def client(self, name: str) -> Bytes:
        """All bytes of one client, of whatever run."""
        return (await self._sums("client", client=name)).get(name, Bytes())

    async def kinds(self) -> dict[LedgerKind, Bytes]:
        """All bytes by kind since the coordinator's first start."""
        return await self._sums("kind")

    async def clients_of(self, run: str) -> list[str]:
        """The clients that have spent bytes on this run, sorted."""
        return sorted(name for name in await self._sums("client", run=run) if name)

    async def links(self, run: str) -> list[LinkRow]:
        """What the run's clients have reported of their links, beside all the bytes that are theirs, by client."""
        names, counted = await self.clients_of(run), await self._sums("client")
        query = select(links.c.client, links.c.sent_bytes, links.c.received_bytes).where(
            exists().where(ledger.c.run == run, ledger.c.client == links.c.client)
        )
        told = {name: counts for name, *counts in await self._database.read(lambda one: one.execute(query).all())}
        for name, counts in self._fresh_links.items():
            told[name] = list(map(max, told.get(name, counts), counts))
        return [
            LinkRow(
                client=name, sent_bytes=told[name][0], received_bytes=told[name][1],
                uplink_bytes=counted[name].uplink, downlink_bytes=counted[name].downlink,
            )
            for name in names
            if name in told
        ]  # fmt: skip

    async def rows(self, run: str) -> AsyncIterator[list[LedgerRow]]:
        """The run's rows, and those of its clients that belong to no run (enrolment, connections, idle polls), block by
        block in the order of client, exchange and kind; each as it stood when its block was read.

        What could not be stored follows as rows of its own.
        """
        with contextlib.suppress(ProblemError):
            await self.flush()
        last: _Place | None = None
        while found := await self._database.read(partial(_block, run=run, last=last)):
            yield found
            last = found[-1].client, _number(found[-1].exchange), found[-1].kind, found[-1].run
        try:
            await self.flush()
        except ProblemError:
            members = await self.clients_of(run)
            async with self._storing:  # else what is being stored would be missing
                fresh = list(self._fresh.items())
            yield [_unstored(*one) for one in fresh if one[0][0] == run or (not one[0][0] and one[0][1] in members)]

    async def _sums(self, by: str, **where: str) -> dict[Any, Bytes]:
        """Sums of the rows with these values, by the value of a column."""
        query = select(ledger.c[by], *_SUMS).where(*(ledger.c[name] == value for name, value in where.items()))

        def work(connection: Connection) -> dict[Any, Bytes]:
            return {row[0]: Bytes(*row[1:]) for row in connection.execute(query.group_by(ledger.c[by]))}

        try:
            await self.flush()
        except ProblemError:
            # Nothing is stored between the reading and the adding.
            async with self._storing:
                sums = defaultdict(Bytes, await self._database.read(work))
                for key, value in self._fresh.items():
                    if all(key[_PLACES[name]] == wanted for name, wanted in where.items()):
                        sums[_number(key[2]) if by == "exchange" else key[_PLACES[by]]] += value
                return dict(sums)
        return await self._database.read(work)


def _add(connection: Connection, fresh: dict[Key, Bytes], told: dict[str, tuple[int, int]]) -> None:
    if fresh:
        connection.execute(_adding(connection.dialect.name), [_values(key, value) for key, value in fresh.items()])
    if told:
        rows = [{"client": name, "sent_bytes": sent, "received_bytes": got} for name, (sent, got) in told.items()]
        connection.execute(_keeping(connection.dialect.name), rows)


@cache
def _adding(dialect: str) -> Executable:
    new = upsert_in(dialect, ledger)
    return new.on_conflict_do_update(
        index_elements=["run", "client", "exchange", "kind"],
        set_={count.name: count + new.excluded[count.name] for count in _COUNTS},
    )


@cache
def _keeping(dialect: str) -> Executable:
    link = upsert_in(dialect, links)
    counts = [(links.c[name], link.excluded[name]) for name in ("sent_bytes", "received_bytes")]
    later = {old.name: case((now > old, now), else_=old) for old, now in counts}
    return link.on_conflict_do_update(index_elements=["client"], set_=later)


def _values(key: Key, value: Bytes) -> dict[str, Any]:
    """A row of the table, or of its message but for the exchange."""
    run, client, exchange, kind = key
    return {
        "run": run, "client": client, "exchange": _number(exchange), "kind": kind,
        "requests": value.requests, "uplink_payload_bytes": value.uplink_payload,
        "uplink_framing_bytes": value.uplink_framing, "downlink_payload_bytes": value.downlink_payload,
        "downlink_framing_bytes": value.downlink_framing, "resumed_bytes": value.resumed, "seconds": value.seconds,
    }  # fmt: skip


def _unstored(key: Key, value: Bytes) -> LedgerRow:
    """A row of what could not be stored; what is to be taken off a stored row shows only when it can be."""
    positive = {name: max(0, count) if isinstance(count, int) else count for name, count in _values(key, value).items()}
    return LedgerRow.model_validate({**positive, "exchange": key[2]})


def _number(exchange: int | None) -> int:
    return _NOBODY if exchange is None else exchange


def _exchange(number: int) -> int | None:
    return None if number == _NOBODY else number


def _block(connection: Connection, run: str, last: _Place | None) -> list[LedgerRow]:
    """The next rows behind `last`."""
    other = ledger.alias()
    of_run = exists().where(other.c.run == run, other.c.client == ledger.c.client)
    place = and_(exchanges.c.run == ledger.c.run, exchanges.c.exchange == ledger.c.exchange)
    # Named, since two tables have an exchange and a run.
    names = (column.label(column.name) for column in _ORDER)
    query = select(*names, exchanges.c.round, exchanges.c.step, *_COUNTS).outerjoin_from(ledger, exchanges, place)
    if last is not None:
        query = query.where(tuple_(*_ORDER) > tuple_(*map(literal, last)))
    idle = query.where(ledger.c.run == "", ledger.c.client != "", of_run)
    both = union_all(query.where(ledger.c.run == run), idle)
    ordered = both.order_by(*(text(column.name) for column in _ORDER)).limit(BLOCK)
    found = connection.execute(ordered).mappings()
    return [LedgerRow.model_validate({**row, "exchange": _exchange(row["exchange"])}) for row in found]
