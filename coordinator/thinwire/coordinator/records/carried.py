"""Tasks of asynchronous runs, which stay open when their exchange closes and count in a later one."""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select, update

from thinwire.coordinator.runs.metrics import Told
from thinwire.coordinator.runs.rows import TaskRow

from .database import Database
from .tables import answers, runs, tasks, uploads

counted_in: Final = func.coalesce(tasks.c.counted_in, tasks.c.exchange)
"""Of a task whose answer counts: the exchange in which it does."""
oldest_open: Final = runs.c.exchange - func.coalesce(runs.c.settings["max-staleness"].as_integer(), 0)
"""Of a run: no task of an exchange before this one is open."""


class Carried:
    """Reads alone. Every verb raises `storage-failed`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, run: str, exchange: int, oldest: int) -> list[TaskRow]:
        """The tasks of exchanges from `oldest` on, before this one, that are open or count in this one, in the order
        in which they were asked.
        """
        counts = and_(tasks.c.state == "accepted", counted_in == exchange)
        which = and_(_between(run, oldest, exchange - 1), or_(tasks.c.state == "open", counts))
        query = select(tasks).where(which).order_by(tasks.c.exchange, tasks.c.slot, tasks.c.offer)
        return await self._database.read(
            lambda connection: [TaskRow(**row._mapping) for row in connection.execute(query)]
        )

    async def told(self, run: str, first: int, last: int) -> dict[int, list[Told]]:
        """What the answers to the tasks of each of these exchanges have said, in whichever exchange they count."""
        query = (
            select(tasks.c.exchange, answers.c.examples, answers.c.metrics)
            .join(answers, answers.c.task == tasks.c.id)
            .where(_between(run, first, last), tasks.c.state == "accepted")
        )

        def work(connection: Connection) -> dict[int, list[Told]]:
            found: dict[int, list[Told]] = {}
            for exchange, examples, metrics in connection.execute(query):
                found.setdefault(exchange, []).append(Told(examples, metrics))
            return found

        return await self._database.read(work)


def forget_carried(connection: Connection, run: str, exchange: int) -> None:
    """What earlier exchanges have asked counts neither in this exchange nor in a later one: it is asked anew."""
    counted = and_(tasks.c.state == "accepted", tasks.c.counted_in >= exchange)
    which = and_(tasks.c.run == run, tasks.c.exchange < exchange, or_(tasks.c.state == "open", counted))
    mine = select(tasks.c.id).where(which)
    for table in (answers, uploads):
        connection.execute(delete(table).where(table.c.task.in_(mine)))
    connection.execute(update(tasks).where(which).values(state="late", counted_in=None))


def _between(run: str, first: int, last: int) -> ColumnElement[bool]:
    return and_(tasks.c.run == run, tasks.c.exchange >= first, tasks.c.exchange <= last)
