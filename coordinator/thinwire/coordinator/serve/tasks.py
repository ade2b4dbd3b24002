"""Tasks as clients get them, and what a task is by its id."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from thinwire.coordinator.records.tasks import OpenTask, Tasks
from thinwire.coordinator.runs.broadcast import Form, grown, part_messages
from thinwire.machine.workers import Workers
from thinwire.methods.values import EVALUATE
from thinwire.protocol.messages import MAX_INLINE_BYTES, PartMessage, TaskMessage
from thinwire.protocol.reasons import ProblemError

from .exchanges import ExchangeBook, ExchangeFacts

MOST_KNOWN: Final = 1 << 16
"""Tasks that are remembered."""


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What never changes of a task."""

    id: str
    run: str
    exchange: int
    client: str
    is_evaluation: bool


class TaskBook:
    """What tasks are, so that a request can be charged to its run and exchange before its body is read."""

    def __init__(self, tasks: Tasks, exchanges: ExchangeBook) -> None:
        self._tasks = tasks
        self._exchanges = exchanges
        self._known: OrderedDict[str, TaskFacts] = OrderedDict()

    def note(self, facts: TaskFacts) -> None:
        """Remembers a task that is being told."""
        self._known[facts.id] = facts
        self._known.move_to_end(facts.id)
        while len(self._known) > MOST_KNOWN:
            self._known.popitem(last=False)

    async def find(self, task: str, client: str) -> TaskFacts:
        """Raises: `task-not-found`, also for another client's task; `storage-failed`."""
        found = self._known.get(task)
        if found is None:
            row = await self._tasks.get(task, client)
            exchange = await self._exchanges.find(row.run, row.exchange)
            is_evaluation = exchange is not None and exchange.kind == EVALUATE
            found = TaskFacts(row.id, row.run, row.exchange, row.client, is_evaluation)
            self.note(found)
        if found.client != client:
            raise ProblemError("task-not-found")
        return found

    async def answered(self, run: str, exchange: int, client: str) -> bool:
        """Whether an answer of the client to this exchange has arrived here. Raises: `storage-failed`."""
        return await self._tasks.answered(run, exchange, client)

    async def takes_up_to(self, task: TaskFacts) -> int:
        """Bytes that the payload of an answer may have. Raises: `task-not-found`: nobody waits for an answer any more;
        `storage-failed`.
        """
        row = await self._tasks.get(task.id, task.client)
        most = await self._exchanges.max_payload_bytes(task.run, task.exchange)
        if (row.state == "late" and not row.lapsed) or most is None:
            raise ProblemError("task-not-found")
        return most


class TaskMessages:
    """`clock`: Unix seconds."""

    def __init__(
        self, exchanges: ExchangeBook, book: TaskBook, workers: Workers, clock: Callable[[], float] = time.time
    ) -> None:
        self._exchanges = exchanges
        self._book = book
        self._workers = workers
        self._clock = clock

    async def of(self, task: OpenTask, client: str, holds: Mapping[str, int], *, inline: bool) -> TaskMessage:
        """The task as its client gets it. `holds`: run -> the exchange whose parts the client still has; `inline`:
        whether small parts may travel inside the message. Raises: `storage-failed`, `OSError`.
        """
        facts = await self._exchanges.find(task.run, task.exchange)
        if facts is None:
            raise ProblemError("internal", f"the open task {task.id} has no exchange")
        small = facts.small or {}
        inline = inline and facts.small is not None
        older = await self._older(task, facts, await self._claim(task, client, holds.get(task.run)))
        held_exchange, held = older if older is not None else (None, None)
        since: dict[str, bytes] = {}
        if inline and held is not None and facts.grows and held.names != facts.names:
            since = await self._workers.run(self._since, task, facts, held)
        parts = part_messages(
            facts.parts,
            {} if held is None else held.names,
            is_previous=held_exchange == task.exchange - 1,
            inline=inline,
            first=task.exchange == 0,
            content=small.__getitem__,
            since=since,
        )
        if task.private is not None:
            parts.append(await self._private(task, task.private, inline and not any(part.inline for part in parts)))
        self._book.note(TaskFacts(task.id, task.run, task.exchange, client, facts.kind == EVALUATE))
        left_s = None if task.left_s is None else task.left_s - max(0.0, self._clock() - task.clock_at)
        return TaskMessage(
            task=task.id,
            run=task.run,
            plan=task.plan,
            exchange=task.exchange,
            round=task.round,
            step=task.step,
            options=task.options or None,
            parts=parts,
            deadline_s=None if left_s is None else max(0.0, round(left_s, 1)),
            dropped=task.dropped,
        )

    async def _claim(self, task: OpenTask, client: str, exchange: int | None) -> int | None:
        """What the client may still hold. Of a run that goes on from a backup it may have meant a future that is lost,
        unless it has answered here.
        """
        if exchange is None or task.restored_at is None or exchange < task.restored_at:
            return exchange
        return exchange if await self._book.answered(task.run, exchange, client) else None

    async def _older(
        self, task: OpenTask, facts: ExchangeFacts, exchange: int | None
    ) -> tuple[int, ExchangeFacts] | None:
        """The exchange whose parts the client holds: what has not changed since need not travel, nor the beginning of
        what only grows. None where it holds nothing of the run.
        """
        if exchange is None or exchange > task.exchange:
            return None
        found = facts if exchange == task.exchange else await self._exchanges.find(task.run, exchange)
        return None if found is None else (exchange, found)

    def _since(self, task: OpenTask, facts: ExchangeFacts, held: ExchangeFacts) -> dict[str, bytes]:
        """In a thread: what has been added to parts that grow."""
        return grown(facts.parts, held.parts, lambda digest: self._exchanges.read(task.run, digest))

    async def _private(self, task: OpenTask, private: list[Any], inline: bool) -> PartMessage:
        form, spec = Form.from_plain(private[:2]), private[2]
        if inline and form.size <= MAX_INLINE_BYTES:
            return PartMessage(inline=await self._workers.run(self._exchanges.read, task.run, form.digest), spec=spec)
        return PartMessage(digest=form.digest, size=form.size, spec=spec)
