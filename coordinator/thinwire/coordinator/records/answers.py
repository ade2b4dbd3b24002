"""Answers that have arrived whole. Their payloads are objects; the verdict on one is the state of its task."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, exists, select

from thinwire.coordinator.runs.rows import AnswerRow, TaskRow

from .database import Database, upsert
from .tables import answers, tasks
from .tasks import find_task, note_seen

_MOST_TASKS: Final = 500
"""Named in one statement."""
_WITHDRAW = delete(answers).where(
    answers.c.task == bindparam("name"), exists().where(tasks.c.id == answers.c.task, tasks.c.state == "open")
)


class Answers:
    """The rows of answers. Every verb raises `storage-failed`, and those that write `storage-full`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def arrive(
        self,
        task: str,
        client: str,
        examples: int,
        metrics: Mapping[str, float],
        digest: bytes | None,
        size: int,
        now: float,
        *,
        durable: bool = False,
    ) -> TaskRow:
        """Notes the answer of an open task. `digest`, `size` in bytes: of its payload, which is stored; None and 0
        without one. A repeat, or one that comes too late, changes nothing. The task as it stands.

        Raises: `task-not-found`, also for another client's task.
        """
        values: dict[str, Any] = {
            "task": task, "examples": examples, "metrics": dict(metrics), "digest": digest, "size": size,
            "arrived_at": now,
        }  # fmt: skip

        def work(connection: Connection) -> TaskRow:
            row = find_task(connection, task, client, lock=True)
            if row.state == "open":
                new = upsert(connection, answers).on_conflict_do_nothing(index_elements=["task"])
                connection.execute(new, values)
            note_seen(connection, client, now)
            return row

        return await self._database.transaction(work, durable=durable)

    async def withdraw(self, task: str) -> bool:
        """Forgets the answer of an open task, which could not be kept or is damaged, so that it can be sent again.
        Whether there was one.
        """
        return await self._database.transaction(
            lambda connection: connection.execute(_WITHDRAW, {"name": task}).rowcount > 0
        )

    async def undecided(self, run: str, exchange: int, among: Collection[str] | None = None) -> list[AnswerRow]:
        """The answers that wait for a verdict, as they came; of these tasks, or of all."""
        which = [tasks.c.state == "open"]
        if among is not None and len(among) <= _MOST_TASKS:
            which.append(tasks.c.id.in_(among))
        found = await self._select(run, exchange, *which)
        return found if among is None else [answer for answer in found if answer.task in among]

    async def accepted(self, run: str, exchange: int) -> list[AnswerRow]:
        """The answers that count, as they came."""
        return await self._select(run, exchange, tasks.c.state == "accepted")

    async def _select(self, run: str, exchange: int, *which: ColumnElement[bool]) -> list[AnswerRow]:
        query = (
            select(
                answers.c.task, tasks.c.client, tasks.c.slot, tasks.c.offer, answers.c.examples, answers.c.metrics,
                answers.c.digest, answers.c.size, tasks.c.state,
            )
            .join(tasks, tasks.c.id == answers.c.task)
            .where(and_(tasks.c.run == run, tasks.c.exchange == exchange), *which)
            .order_by(answers.c.arrived_at, tasks.c.slot)
        )  # fmt: skip
        return await self._database.read(lambda connection: [AnswerRow(*row) for row in connection.execute(query)])
