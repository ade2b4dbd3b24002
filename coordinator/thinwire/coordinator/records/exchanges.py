"""Exchanges: opened, offered again, closed, by the leader of their run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, Final

from sqlalchemy import (
    JSON,
    ColumnElement,
    Connection,
    Executable,
    Row,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    update,
)

from thinwire.coordinator.runs.best import Best
from thinwire.coordinator.runs.closed import Figures, Over
from thinwire.coordinator.runs.rows import STALE, ExchangeRow

from .database import Database, upsert_in
from .dropping import DROPPED
from .events import add_event
from .leases import Lease, fence
from .payloads import NO_EXCHANGE, name_broadcast
from .prepared import Prepared
from .tables import answers, exchanges, payloads, runs, tasks
from .uploads import delete_uploads

_KEY = ("run", "exchange")
_NAMES = tuple(one.name for one in fields(ExchangeRow))
BLOCK: Final = 200
"""Closed exchanges that are read at once."""
_CLOSE = Prepared(
    update(exchanges)
    .where(
        exchanges.c.run == bindparam("of_run"), exchanges.c.exchange == bindparam("index"),
        exchanges.c.closed.is_(False),
    )
    .values(
        closed=True, seconds=bindparam("lasted"), answers=bindparam("counted"), offers=bindparam("offered"),
        metrics=bindparam("means"), staleness=bindparam("ages"), clock_at=bindparam("now"), closed_at=bindparam("now"),
    )
)  # fmt: skip
_LATE = Prepared(
    update(tasks)
    .where(
        tasks.c.run == bindparam("of_run"), tasks.c.exchange >= bindparam("first"),
        tasks.c.exchange < bindparam("end"), tasks.c.state == "open",
    )
    .values(state="late", reason=bindparam("why"), detail=bindparam("words"))
)  # fmt: skip
_MEASURED = Prepared(
    update(exchanges)
    .where(exchanges.c.run == bindparam("of_run"), exchanges.c.exchange == bindparam("index"))
    .values(metrics=bindparam("means"))
)
_GO_ON = Prepared(
    update(runs)
    .where(runs.c.id == bindparam("of_run"))
    .values(
        exchange=bindparam("next_exchange"),
        round=bindparam("next_round"),
        step=bindparam("next_step"),
        reason=None,
        state_epoch=bindparam("next_epoch"),
        best=bindparam("best_models"),
    )
)
_UNNAME_OLDER = delete(payloads).where(
    payloads.c.run == bindparam("of_run"), payloads.c.exchange > NO_EXCHANGE, payloads.c.exchange < bindparam("oldest")
)
_UNNAME_ALL_OLDER = Prepared(_UNNAME_OLDER)
_UNNAME_OTHERS = _UNNAME_OLDER.where(payloads.c.exchange.not_in(bindparam("kept", expanding=True)))
_THIS = and_(exchanges.c.run == bindparam("of_run"), exchanges.c.exchange == bindparam("index"))
_ASKS = exists().where(
    tasks.c.run == exchanges.c.run, tasks.c.exchange == exchanges.c.exchange, tasks.c.state == "open"
)
_ROOM = Prepared(select(exchanges.c.max_payload_bytes).where(_THIS, or_(exchanges.c.closed.is_(False), _ASKS)))
_ONE = Prepared(select(exchanges).where(_THIS))


class Exchanges:
    """The rows of exchanges. Every verb raises `storage-failed`; those that write `storage-full`, `LeaseLostError`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, lease: Lease, row: ExchangeRow, digests: Collection[bytes], now: float) -> None:
        """The exchange, and the payloads it names: its plan and the parts of its broadcast. Takes the place of a row
        that is there: a crash came before its first task, or an older version did not note as much.
        """
        values = {name: getattr(row, name) for name in _NAMES}

        def work(connection: Connection) -> None:
            fence(connection, lease)
            _OPEN.change(connection, values)
            name_broadcast(connection, row.run, row.exchange, row.plan, digests)
            add_event(connection, row.run, "run", now)

        await self._database.transaction(work)

    async def renew(
        self,
        lease: Lease,
        exchange: int,
        offers: int,
        left_s: float | None,
        late: Collection[str],
        *,
        drop: bool,
        now: float,
    ) -> None:
        """The next offer, with so many seconds left; of the tasks `late`, those still open are. `drop`: accepted ones
        too, as `DROPPED`, and what arrived for any of them is forgotten.
        """
        asked = [{"task": task} for task in late]
        going = update(tasks).where(tasks.c.id == bindparam("task"))
        renewed: dict[str, Any] = {
            "offers": offers,
            "left_s": left_s,
            "seconds": exchanges.c.seconds + (now - exchanges.c.clock_at),
            "clock_at": now,
        }
        if drop:
            renewed["answers"] = 0

        def work(connection: Connection) -> None:
            fence(connection, lease)
            if asked:
                connection.execute(going.where(tasks.c.state == "open").values(state="late"), asked)
            if asked and drop:
                counted = going.where(tasks.c.state == "accepted")
                connection.execute(counted.values(state="late", reason=DROPPED), asked)
                connection.execute(delete(answers).where(answers.c.task == bindparam("task")), asked)
            connection.execute(update(exchanges).where(_is(lease.run, exchange)).values(renewed))
            add_event(connection, lease.run, "run", now)

        await self._database.transaction(work)

    async def close(
        self,
        lease: Lease,
        figures: Figures,
        round_: int,
        step: int,
        now: float,
        best: Sequence[Best] = (),
        over: Over | None = None,
    ) -> None:
        """The exchange is over: its unanswered tasks are late, or those that `over` says, and the run stands before the
        next one, at this round and step. Of the run's payloads those of this exchange stay, those of exchanges with
        tasks that go on, and those of the exchanges that have measured its best models. Durable. A repeat changes
        nothing.
        """
        run, exchange = lease.run, figures.exchange
        which = {"of_run": run, "index": exchange}
        over = over or Over(exchange, exchange + 1)
        oldest = {"of_run": run, "oldest": min(exchange, over.end)}
        stale = {"why": None if over.why is None else STALE, "words": over.why}
        values = {
            "ages": None if figures.staleness is None else list(figures.staleness),
            "lasted": figures.seconds, "counted": figures.answers, "offered": figures.offers,
            "means": dict(figures.metrics), "now": now,
        }  # fmt: skip

        def work(connection: Connection) -> None:
            fence(connection, lease)
            if not _CLOSE.change(connection, {**which, **values}):
                return
            _LATE.change(connection, {"of_run": run, "first": over.first, "end": over.end, **stale})
            delete_uploads(connection, run, over.first, over.end - 1)
            for index, means in figures.older.items():
                _MEASURED.change(connection, {"of_run": run, "index": index, "means": dict(means)})
            following = {
                "next_exchange": exchange + 1,
                "next_round": round_,
                "next_step": step,
                "next_epoch": lease.mark,
                "best_models": [one.to_plain() for one in best],
            }
            _GO_ON.change(connection, {"of_run": run, **following})
            if best:
                connection.execute(_UNNAME_OTHERS, {**oldest, "kept": [one.exchange for one in best]})
            else:
                _UNNAME_ALL_OLDER.change(connection, oldest)
            add_event(connection, run, "exchange", now, exchange=exchange)
            add_event(connection, run, "run", now)

        await self._database.transaction(work, durable=True)

    async def leave_out(self, lease: Lease, exchange: int, left_out: Mapping[str, str], now: float) -> None:
        """Client -> why a budget keeps it from being asked, of all who are left out of this exchange by now."""
        values = {"left_out": dict(left_out) or None}

        def work(connection: Connection) -> None:
            fence(connection, lease)
            connection.execute(update(exchanges).where(_is(lease.run, exchange)).values(values))
            add_event(connection, lease.run, "run", now)

        await self._database.transaction(work)

    async def save_clocks(self, lease: Lease, exchange: int, seconds: float, left_s: float | None, now: float) -> None:
        """How long the exchange has been open by now, and what is left of its offer; in seconds."""
        clocks = {"seconds": seconds, "left_s": left_s, "clock_at": now}

        def work(connection: Connection) -> None:
            fence(connection, lease)
            connection.execute(update(exchanges).where(_is(lease.run, exchange)).values(clocks))

        await self._database.transaction(work)

    async def of(self, run: str) -> list[ExchangeRow]:
        """All exchanges of a run, in order."""
        query = select(exchanges).where(exchanges.c.run == run).order_by(exchanges.c.exchange)
        return await self._database.read(
            lambda connection: [ExchangeRow(**row._mapping) for row in connection.execute(query)]
        )

    async def closed(self, run: str) -> tuple[int, AsyncIterator[list[ExchangeRow]]]:
        """How many exchanges of the run are closed, and these, block by block in order; without their parts."""
        empty = literal_column("'[]'", JSON).label("parts")
        columns = [empty if column.name == "parts" else column for column in exchanges.c]
        is_closed = and_(exchanges.c.run == run, exchanges.c.closed)
        query = select(*columns).where(is_closed).order_by(exchanges.c.exchange)
        count = select(func.count(), func.coalesce(func.max(exchanges.c.exchange), -1)).where(is_closed)
        number, last = await self._database.read(lambda connection: tuple(connection.execute(count).one()))

        async def blocks() -> AsyncIterator[list[ExchangeRow]]:
            done = -1
            while done < last:
                some = query.where(exchanges.c.exchange > done, exchanges.c.exchange <= last).limit(BLOCK)
                found = await self._database.read(partial(_all, query=some))
                yield [ExchangeRow(**row._mapping) for row in found]
                done = found[-1].exchange

        return number, blocks()

    async def get(self, run: str, exchange: int) -> ExchangeRow | None:
        """The exchange, if it has been opened."""

        def work(connection: Connection) -> ExchangeRow | None:
            row = _ONE.first(connection, {"of_run": run, "index": exchange})
            return None if row is None else ExchangeRow(**row._asdict())

        return await self._database.look(work)

    async def takes_up_to(self, run: str, exchange: int) -> int | None:
        """Bytes that the payload of an answer may have; None where none is waited for."""
        which = {"of_run": run, "index": exchange}
        return await self._database.look(lambda connection: _ROOM.scalar(connection, which))


def _opening(dialect: str) -> Executable:
    new = upsert_in(dialect, exchanges)
    others = {column.name: new.excluded[column.name] for column in exchanges.c if column.name not in _KEY}
    return new.on_conflict_do_update(index_elements=_KEY, set_=others)


_OPEN = Prepared(_opening)


def _is(run: str, exchange: int) -> ColumnElement[bool]:
    return (exchanges.c.run == run) & (exchanges.c.exchange == exchange)


def _all(connection: Connection, query: Select[Any]) -> Sequence[Row[Any]]:
    return connection.execute(query).all()
