"""The ledger's rows as a run shows them: its own, and those of its clients that belong to no run (enrolment,
connections, idle polls). One block at a time, each found by the place behind which it begins.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    cast,
    exists,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
    union,
    union_all,
)

from thinwire.protocol.messages import LedgerRow

from .tables import exchanges, ledger

BLOCK: Final = 200
"""Rows that are read at once."""
CLIENTS: Final = 100
"""Clients that are summed at once."""
NO_EXCHANGE: Final = -1
"""The exchange of rows that belong to none: NULL would not be unique."""
COUNTS: Final = (
    ledger.c.requests, ledger.c.uplink_payload_bytes, ledger.c.uplink_framing_bytes, ledger.c.downlink_payload_bytes,
    ledger.c.downlink_framing_bytes, ledger.c.resumed_bytes, ledger.c.seconds,
)  # fmt: skip
SUMS: Final = tuple(cast(func.coalesce(func.sum(count), 0), count.type).label(count.name) for count in COUNTS)
_ORDER: Final = (ledger.c.client, ledger.c.exchange, ledger.c.kind, ledger.c.run)
_OTHER: Final = ledger.alias()


@dataclass(frozen=True, slots=True)
class Extent:
    """The rows there are at one moment: no row is deleted, and ids only grow. `last`: the newest of them."""

    run: str
    last: int
    rows: int


def extent(connection: Connection, run: str) -> Extent:
    """Of the rows that the run shows now."""
    last = connection.execute(select(func.coalesce(func.max(ledger.c.id), 0))).scalar_one()
    counts = (
        select(func.count()).select_from(ledger).where(ledger.c.id <= last, one)
        for one in (_own(run), idle_of(run, last))
    )
    return Extent(run, last, sum(connection.execute(count).scalar_one() for count in counts))


def block(connection: Connection, of: Extent, behind: LedgerRow | None) -> list[LedgerRow]:
    """The next rows, in the order of client, exchange, kind."""
    place = and_(exchanges.c.run == ledger.c.run, exchanges.c.exchange == ledger.c.exchange)
    # Named, since two tables have an exchange and a run.
    names = (column.label(column.name) for column in _ORDER)
    query = select(*names, exchanges.c.round, exchanges.c.step, *COUNTS).outerjoin_from(ledger, exchanges, place)
    query = query.where(ledger.c.id <= of.last)
    if behind is not None:
        number = NO_EXCHANGE if behind.exchange is None else behind.exchange
        last = behind.client, number, behind.kind, behind.run
        query = query.where(tuple_(*_ORDER) > tuple_(*map(literal, last)))
    both = union_all(query.where(_own(of.run)), query.where(idle_of(of.run, of.last)))
    ordered = both.order_by(*(text(column.name) for column in _ORDER)).limit(BLOCK)
    found = connection.execute(ordered).mappings()
    return [LedgerRow.model_validate({**row, "exchange": exchange_of(row["exchange"])}) for row in found]


def idle_rows(connection: Connection, run: str, clients: Collection[str]) -> list[LedgerRow]:
    """The rows that belong to no run of those of these clients that no row of this run names."""
    named = select(ledger.c.client).where(_own(run))
    mine = ledger.c.client.in_(clients), ledger.c.client.not_in(named)
    query = select(*_ORDER, *COUNTS).where(ledger.c.run == "", *mine).order_by(*_ORDER)
    found = connection.execute(query).mappings()
    return [LedgerRow.model_validate({**row, "exchange": exchange_of(row["exchange"])}) for row in found]


def exchange_of(number: int) -> int | None:
    """As messages have it."""
    return None if number == NO_EXCHANGE else number


def kind_sums(connection: Connection, run: str) -> list[LedgerRow]:
    """A row for each kind."""
    both = (_own(run), idle_of(run))
    inner = union_all(*(select(ledger.c.kind, *SUMS).where(one).group_by(ledger.c.kind) for one in both)).subquery()
    sums = (cast(func.sum(inner.c[count.name]), count.type).label(count.name) for count in COUNTS)
    found = connection.execute(select(inner.c.kind, *sums).group_by(inner.c.kind).order_by(inner.c.kind)).mappings()
    return [LedgerRow.model_validate({**row, "run": run, "client": ""}) for row in found]


def client_extent(connection: Connection, run: str) -> Extent:
    """Of the rows that `client_sums` gives."""
    last = connection.execute(select(func.coalesce(func.max(ledger.c.id), 0))).scalar_one()
    pairs = union(
        *(
            select(ledger.c.client, ledger.c.kind).where(ledger.c.id <= last, one)
            for one in (_own(run), idle_of(run, last))
        )
    )
    return Extent(run, last, connection.execute(select(func.count()).select_from(pairs.subquery())).scalar_one())


def client_sums(connection: Connection, of: Extent, behind: LedgerRow | None) -> list[LedgerRow]:
    """A row for each kind of the next clients, by client and kind."""
    names = select(ledger.c.client).where(_own(of.run), ledger.c.id <= of.last)
    if behind is not None:
        names = names.where(ledger.c.client > behind.client)
    some = connection.scalars(names.distinct().order_by(ledger.c.client).limit(CLIENTS))
    theirs = or_(_own(of.run), and_(ledger.c.run == "", ledger.c.client != ""))
    query = select(ledger.c.client, ledger.c.kind, *SUMS).where(
        ledger.c.client.in_(list(some)), theirs, ledger.c.id <= of.last
    )
    ordered = query.group_by(ledger.c.client, ledger.c.kind).order_by(ledger.c.client, ledger.c.kind)
    return [LedgerRow.model_validate({**row, "run": of.run}) for row in connection.execute(ordered).mappings()]


def _own(run: str) -> ColumnElement[bool]:
    return ledger.c.run == run


def idle_of(run: str, last: int | None = None) -> ColumnElement[bool]:
    """Of a row: whether it belongs to no run and to a client of this one, which has a row up to `last`."""
    of_run = exists().where(_OTHER.c.run == run, _OTHER.c.client == ledger.c.client)
    if last is not None:
        of_run = of_run.where(_OTHER.c.id <= last)
    return and_(ledger.c.run == "", ledger.c.client != "", of_run)
