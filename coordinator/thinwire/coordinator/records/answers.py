"""Answers that have arrived whole. Their payloads are objects; the verdict on one is the state of its task."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from sqlalchemy import Connection, Executable, bindparam, delete, exists, select

from thinwire.coordinator.runs.exchange import SlotState
from thinwire.coordinator.runs.rows import AnswerRow, TaskRow

from .carried import counted_in
from .database import Database, upsert_in
from .lapsing import answer_lapsed
from .prepared import Prepared
from .presence import note_held
from .tables import answers, tasks
from .tasks import find_task
from .uploads import end_upload

_FEW_TASKS: Final = 50
"""Of more tasks than these the whole exchange is read."""
_WITHDRAW = delete(answers).where(
    answers.c.task == bindparam("name"), exists().where(tasks.c.id == answers.c.task, tasks.c.state == "open")
)
_NOTE: Final = Prepared(lambda dialect: upsert_in(dialect, answers).on_conflict_do_nothing(index_elements=["task"]))
_OF_EXCHANGE: Final = (
    select(
        answers.c.task, tasks.c.client, tasks.c.slot, tasks.c.offer, answers.c.examples, answers.c.metrics,
        answers.c.digest, answers.c.size, tasks.c.state, tasks.c.exchange,
    )
    .join(tasks, tasks.c.id == answers.c.task)
    .where(
        tasks.c.run == bindparam("of_run"), tasks.c.exchange >= bindparam("oldest"),
        tasks.c.exchange <= bindparam("index"), tasks.c.state == bindparam("of_state"),
    )
    .order_by(answers.c.arrived_at, tasks.c.slot)
)  # fmt: skip
_COUNTED: Final = _OF_EXCHANGE.where(bindparam("index") == counted_in)
_OF_TASKS: Final = _OF_EXCHANGE.where(tasks.c.id.in_(bindparam("names", expanding=True)))
_OF_TASK: Final = Prepared(_OF_EXCHANGE.where(tasks.c.id == bindparam("name")))


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
        upload: str | None = None,
        durable: bool = False,
    ) -> TaskRow:
        """Notes the answer of an open task. `digest`, `size` in bytes: of its payload, which is stored; None and 0
        without one. A repeat, or one that comes too late, is none. To have answered implies holding the parts of the
        exchange. A task that had lapsed is open again. `upload`: the one that the payload has come by, which is over.
        The task as it stands.

        Raises: `task-not-found`, also for another client's task.
        """
        values: dict[str, Any] = {
            "task": task, "examples": examples, "metrics": dict(metrics), "digest": digest, "size": size,
            "arrived_at": now,
        }  # fmt: skip

        def work(connection: Connection) -> TaskRow:
            row = find_task(connection, task, client, lock=True)
            if row.lapsed and answer_lapsed(connection, task):
                row = find_task(connection, task, client)
            if row.state == "open":
                _NOTE.change(connection, values)
            if upload is not None:
                end_upload(connection, upload)
            note_held(connection, client, row.run, row.exchange, now)
            return row

        return await self._database.transaction(work, durable=durable)

    async def withdraw(self, task: str) -> bool:
        """Forgets the answer of an open task, which could not be kept or is damaged, so that it can be sent again.
        Whether there was one.
        """
        return await self._database.transaction(
            lambda connection: connection.execute(_WITHDRAW, {"name": task}).rowcount > 0
        )

    async def undecided(
        self, run: str, exchange: int, among: Collection[str] | None = None, *, oldest: int | None = None
    ) -> list[AnswerRow]:
        """The answers that wait for a verdict, as they came; of these tasks, or of all. `oldest`: those to exchanges
        from this one on.
        """
        wanted: dict[str, Any] = _wanted(run, exchange, oldest, "open")
        if among is not None and len(among) == 1:
            wanted["name"] = next(iter(among))
            return await self._database.look(
                lambda connection: [AnswerRow(*row) for row in _OF_TASK.all(connection, wanted)]
            )
        if among is not None and len(among) <= _FEW_TASKS:
            return await self._database.look(
                lambda connection: _rows(connection, _OF_TASKS, {**wanted, "names": list(among)})
            )
        found = await self._database.read(lambda connection: _rows(connection, _OF_EXCHANGE, wanted))
        return found if among is None else [answer for answer in found if answer.task in among]

    async def accepted(self, run: str, exchange: int, *, oldest: int | None = None) -> list[AnswerRow]:
        """The answers that count in this exchange, as they came. `oldest`: as of `undecided`."""
        wanted = _wanted(run, exchange, oldest, "accepted")
        return await self._database.read(lambda connection: _rows(connection, _COUNTED, wanted))


def _wanted(run: str, exchange: int, oldest: int | None, state: SlotState) -> dict[str, Any]:
    first = exchange if oldest is None else oldest
    return {"of_run": run, "index": exchange, "oldest": first, "of_state": state}


def _rows(connection: Connection, query: Executable, wanted: Mapping[str, Any]) -> list[AnswerRow]:
    return [AnswerRow(*row) for row in connection.execute(query, wanted)]
