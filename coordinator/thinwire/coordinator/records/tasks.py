"""Tasks: one for each client that an exchange asks. The state of a task is the verdict on its answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Executable,
    and_,
    bindparam,
    delete,
    exists,
    or_,
    select,
    update,
)

from thinwire.coordinator.runs.exchange import SlotState
from thinwire.coordinator.runs.rows import LAPSED, TaskRow
from thinwire.protocol.reasons import ProblemError

from .carried import counted_in, oldest_open
from .database import Database, upsert_in
from .dropping import DROPPED_BEFORE
from .events import add_event
from .lapsing import lapse_tasks
from .leases import Lease, fence
from .payloads import name_private
from .prepared import Prepared
from .tables import answers, clients, exchanges, presence, runs, tasks

_MOST_NAMES: Final = 500
"""In one statement."""
_OF_ID = select(tasks).where(tasks.c.id == bindparam("task"))
_TASK, _LOCKED = Prepared(_OF_ID), Prepared(_OF_ID.with_for_update())
_SEEN = update(presence).where(presence.c.client == bindparam("name")).values(seen_at=bindparam("now"), gone=False)
_OPEN_EXCHANGE = exists().where(
    exchanges.c.run == tasks.c.run, exchanges.c.exchange == counted_in, exchanges.c.closed.is_(False)
)
_ANSWERED = exists().where(answers.c.task == tasks.c.id)
_ALLOWED: Final[dict[SlotState, ColumnElement[bool]]] = {
    "accepted": and_(tasks.c.state == "open", _ANSWERED),
    "refused": tasks.c.state == "open",
    "late": tasks.c.state == "open",
    "open": and_(tasks.c.state == "accepted", _OPEN_EXCHANGE),
}
_DECIDE: Final = {
    state: Prepared(
        update(tasks)
        .where(tasks.c.id == bindparam("task"), tasks.c.run == bindparam("lease_run"), allowed)
        .values(
            state=state, reason=bindparam("why"), detail=bindparam("words"),
            counted_in=bindparam("at") if state == "accepted" else None,
        )
        .returning(tasks.c.exchange)
    )
    for state, allowed in _ALLOWED.items()
}  # fmt: skip
_COUNT = Prepared(
    update(exchanges)
    .where(exchanges.c.run == bindparam("lease_run"), exchanges.c.exchange == bindparam("index"))
    .values(answers=bindparam("count"))
)
_FORGET = delete(answers).where(answers.c.task == bindparam("name"))
_REVOKED = select(clients.c.name).where(
    clients.c.name.in_(bindparam("names", expanding=True)), clients.c.revoked_at.is_not(None)
)
_OPEN_OF = Prepared(
    select(
        tasks.c.id, tasks.c.run, tasks.c.exchange, tasks.c.slot, tasks.c.offer, tasks.c.private, exchanges.c.round,
        exchanges.c.step, exchanges.c.kind, exchanges.c.plan, exchanges.c.options, exchanges.c.left_s,
        exchanges.c.clock_at, runs.c.restored_at, DROPPED_BEFORE.label("dropped"),
    )
    .join(runs, runs.c.id == tasks.c.run)
    .join(exchanges, and_(exchanges.c.run == tasks.c.run, exchanges.c.exchange == tasks.c.exchange))
    .where(
        tasks.c.client == bindparam("client"), tasks.c.state == "open", runs.c.state == "running",
    )
    .order_by(runs.c.created_at, runs.c.id)
    .limit(1)
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NewTask:
    """A slot that asks a client. `private`: digest in hex, size in bytes and spec of the part for it alone."""

    id: str
    slot: int
    offer: int
    client: str
    private: list[Any] | None


@dataclass(frozen=True, slots=True)
class OpenTask:
    """A client's open task, with what its exchange says beside its parts, which stay as they are.

    `left_s`: seconds left of the offer at `clock_at`, None without a deadline. `restored_at`: as of its run. `dropped`:
    the client's last task in this run that counted, where its answer was dropped since.
    """

    id: str
    run: str
    exchange: int
    slot: int
    offer: int
    private: list[Any] | None
    round: int
    step: int
    kind: str
    plan: bytes
    options: dict[str, Any] | None
    left_s: float | None
    clock_at: float
    restored_at: int | None
    dropped: str | None = None


class Tasks:
    """The rows of tasks. Every verb raises `storage-failed`, and those that write `storage-full`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def offer(self, lease: Lease, exchange: int, new: Sequence[NewTask]) -> set[str]:
        """Asks these clients. Those of them that are shut out, whose tasks are late from the start. What is offered
        already keeps its state, but for what has lapsed. Raises: `LeaseLostError`.
        """
        if not new:
            return set()
        names = [task.client for task in new]

        def work(connection: Connection) -> set[str]:
            fence(connection, lease)
            shut_out = _revoked(connection, names)
            rows = [
                {
                    "id": task.id, "run": lease.run, "exchange": exchange, "slot": task.slot, "offer": task.offer,
                    "client": task.client, "state": "late" if task.client in shut_out else "open",
                    "private": task.private,
                }
                for task in new
            ]  # fmt: skip
            _ASK.each(connection, rows)
            made = {task.client: bytes.fromhex(task.private[0]) for task in new if task.private is not None}
            name_private(connection, lease.run, exchange, made)
            return shut_out

        return await self._database.transaction(work)

    async def verdict(
        self,
        lease: Lease,
        task: str,
        state: SlotState,
        reason: str | None,
        detail: str | None,
        answers: int,
        now: float,
        *,
        at: int | None = None,
        durable: bool = False,
    ) -> bool:
        """Decides an open task: accepted (its answer has arrived), refused, late; or opens again an accepted one whose
        answer is lost. Whether it did: what has been decided meanwhile stays. `answers`: how many count then in the
        exchange `at`, where it is not the task's own. Raises: `LeaseLostError`.
        """
        values: dict[str, Any] = {"task": task, "lease_run": lease.run, "why": reason, "words": detail}
        if state == "accepted":
            values["at"] = at

        def work(connection: Connection) -> bool:
            fence(connection, lease)
            exchange = _DECIDE[state].scalar(connection, values)
            if exchange is None:
                return False
            exchange = exchange if at is None else at
            if state in ("accepted", "open"):
                _COUNT.change(connection, {"lease_run": lease.run, "index": exchange, "count": answers})
            if state == "open":
                connection.execute(_FORGET, {"name": task})
            if state != "late":
                add_event(connection, lease.run, "answer", now, exchange=exchange, answers=answers)
            return True

        return await self._database.transaction(work, durable=durable)

    async def lapse(self, lease: Lease, asked: Mapping[str, float]) -> set[str]:
        """Those of these open tasks, by when they were offered (Unix seconds), whose clients have not been heard of
        since and do not wait: late from now on, and their clients gone until they are heard. Raises: `LeaseLostError`.
        """

        def work(connection: Connection) -> set[str]:
            fence(connection, lease)
            return lapse_tasks(connection, lease.run, asked)

        return await self._database.transaction(work)

    async def decline(self, task: str, client: str, detail: str, now: float) -> str | None:
        """The client gives its task up: one that is open and not answered is late. The run's id, None where nothing has
        changed. Raises: `task-not-found`, also for another client's task.
        """

        def work(connection: Connection) -> str | None:
            row = find_task(connection, task, client, lock=True)
            note_seen(connection, client, now)
            mine = update(tasks).where(tasks.c.id == task, tasks.c.state == "open", ~_ANSWERED)
            changed = connection.execute(mine.values(state="late", reason="declined", detail=detail)).rowcount
            return row.run if changed else None

        return await self._database.transaction(work)

    async def open_of(self, client: str) -> OpenTask | None:
        """The client's open task in a run that goes on, of the oldest such run."""

        def work(connection: Connection) -> OpenTask | None:
            row = _OPEN_OF.first(connection, {"client": client})
            return None if row is None else OpenTask(*row)

        return await self._database.look(work)

    async def get(self, task: str, client: str) -> TaskRow:
        """Raises: `task-not-found`, also for another client's task."""
        return await self._database.look(lambda connection: find_task(connection, task, client))

    async def of(self, run: str, exchange: int) -> list[TaskRow]:
        """All tasks of an exchange, by slot and offer."""
        query = select(tasks).where(_is(run, exchange)).order_by(tasks.c.slot, tasks.c.offer)
        return await self._database.read(
            lambda connection: [TaskRow(**row._mapping) for row in connection.execute(query)]
        )

    async def unanswered(self, run: str, oldest: int, last: int, most: int) -> list[str]:
        """The clients that these exchanges have asked and that have not answered, the first so many by name."""
        here = and_(tasks.c.run == run, tasks.c.exchange >= oldest, tasks.c.exchange <= last)
        query = select(tasks.c.client).where(here, tasks.c.state == "open", ~_ANSWERED)
        ordered = query.order_by(tasks.c.client).limit(most)
        return await self._database.read(lambda connection: list(connection.scalars(ordered)))

    async def answered(self, run: str, exchange: int, client: str) -> bool:
        """Whether an answer of the client to this exchange has ever arrived here."""
        query = select(tasks.c.id).where(_is(run, exchange), tasks.c.client == client, _ANSWERED).limit(1)
        return await self._database.read(lambda connection: connection.execute(query).first() is not None)

    async def asked(self, client: str, among: Collection[str]) -> set[tuple[str, int]]:
        """Of these runs, the exchanges that have a task of this client and whose payloads are still there."""
        query = (
            select(tasks.c.run, tasks.c.exchange)
            .join(runs, runs.c.id == tasks.c.run)
            .where(tasks.c.client == client, runs.c.id.in_(among), tasks.c.exchange >= oldest_open - 1)
        )
        return await self._database.read(lambda connection: {(row[0], row[1]) for row in connection.execute(query)})

    async def contributors(self, run: str, exchange: int) -> list[str]:
        """The clients whose answers count, sorted."""
        query = select(tasks.c.client).where(_is(run, exchange), tasks.c.state == "accepted")
        return sorted(await self._database.read(lambda connection: set(connection.scalars(query))))


def note_seen(connection: Connection, client: str, now: float) -> None:
    """The client is there: it has just asked for something."""
    connection.execute(_SEEN, {"name": client, "now": now})


def find_task(connection: Connection, task: str, client: str, *, lock: bool = False) -> TaskRow:
    """The client's task. `lock`: it stays as it is until the transaction ends. Raises: `task-not-found`, also for
    another client's.
    """
    row = (_LOCKED if lock else _TASK).first(connection, {"task": task})
    if row is None or row.client != client:
        raise ProblemError("task-not-found")
    return TaskRow(**row._asdict())


def _asking(dialect: str) -> Executable:
    new = upsert_in(dialect, tasks)
    return new.on_conflict_do_update(
        index_elements=["id"],
        set_={**{name: new.excluded[name] for name in ("slot", "private", "state")}, "reason": None},
        where=or_(tasks.c.state == "open", tasks.c.reason == LAPSED),
    )


_ASK = Prepared(_asking)


def _is(run: str, exchange: int) -> ColumnElement[bool]:
    return and_(tasks.c.run == run, tasks.c.exchange == exchange)


def _revoked(connection: Connection, names: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for start in range(0, len(names), _MOST_NAMES):
        found.update(connection.scalars(_REVOKED, {"names": names[start : start + _MOST_NAMES]}))
    return found
