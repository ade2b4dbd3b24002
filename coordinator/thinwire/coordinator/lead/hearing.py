"""What the leader of a run has heard and not looked at yet: hints in, changed rows out."""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from thinwire.coordinator.records.answers import Answers
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.records.tasks import Tasks
from thinwire.coordinator.records.troubles import Troubles
from thinwire.coordinator.runs.rows import AnswerRow
from thinwire.coordinator.runs.tally import Tally
from thinwire.coordinator.signals.signals import Hint, Signals, Subscription
from thinwire.protocol.reasons import ProblemError

from .clock import Clock
from .current import Current, Led
from .deciding import Deciding

RETRY_S = 5.0
"""After a failed read or write the same is tried again."""
_log = structlog.get_logger("thinwire.coordinator")


class Hearing:
    """Of one run. Without a hint for a while everything is looked at: a lost one costs no more than that."""

    def __init__(
        self,
        run: str,
        runs: Runs,
        tasks: Tasks,
        answers: Answers,
        troubles: Troubles,
        tally: Tally,
        deciding: Deciding,
        signals: Signals,
        clock: Clock,
    ) -> None:
        self._run = run
        self._runs = runs
        self._tasks = tasks
        self._answers = answers
        self._troubles = troubles
        self._tally = tally
        self._deciding = deciding
        self._signals = signals
        self._clock = clock
        self._commanded = True
        self._listening = False
        self._arrived: set[str] | None = None  # tasks with an answer; None: whichever there are
        self._changed: set[str] = set()
        self._checks: dict[str, asyncio.Task[None]] = {}
        self._verify = True  # of answers that a process before this one has stored

    def note(self, hints: set[Hint], led: Led) -> None:
        """Remembers what to look at; without any hint, or with one of the run as a whole, everything."""
        if not hints or (f"run:{self._run}", "") in hints:
            self._commanded, self._arrived = True, None
        for topic, item in hints:
            kind, _, name = item.partition(":")
            if topic.startswith("polls:"):
                if led.current is not None and led.current.asked.newcomers is not None:
                    led.current.asked.newcomers.add(item)
            elif kind == "command":
                self._commanded = True
            elif kind == "answer":
                if self._arrived is not None:
                    self._arrived.add(name)
            elif kind == "task":
                self._changed.add(name)
            elif kind == "client" and led.current is not None:
                slot = led.current.exchange.open_slot(name)
                if slot is not None:
                    self._changed.add(led.current.id_of(slot))

    def listen_for_people(self, led: Led, heard: Subscription) -> None:
        """A poll wakes a leader only while its run could use it."""
        current, topic = led.current, f"polls:{led.definition.run.group}"
        wanting = led.state == "pending" or (
            led.state == "running" and current is not None and current.exchange.wanted > 0
        )
        if wanting and not self._listening:
            heard.add(topic)
            if current is not None:
                current.asked.newcomers = None  # whoever came while nobody listened
        elif not wanting and self._listening:
            heard.drop(topic)
        self._listening = wanting

    async def take_in(self, led: Led) -> None:
        """Reads what has changed, and begins to decide on answers. Raises: `storage-failed`."""
        if self._commanded:
            led.orders.command = (await self._runs.get(self._run)).command
            self._commanded = False
        current = led.current
        if current is None:
            if led.definition.run.max_staleness is not None:
                self._arrived = None  # what has outlived its exchange may be answered at any time
                return
            # Nobody can have answered what is not open yet: whoever does so is heard of.
            self._arrived, self._changed, self._verify = set(), set(), False
        else:
            await self._take_in_tasks(current)
            await self._take_in_answers(led, current)

    async def _take_in_tasks(self, current: Current) -> None:
        """Tasks that were declined, or whose clients were shut out."""
        while self._changed:
            task = next(iter(self._changed))
            index = current.asked.slot_by_task.get(task)
            if index is not None:
                client = current.exchange.slot(index).client
                row = await self._tasks.get(task, client)
                if row.state == "late":
                    current.exchange.lose(client)
                if row.reason == "declined":
                    current.asked.declined[client] = row.detail or ""
                    self._tally.answer(self._run, "declined", self._clock.wall())
                    _log.warning("task declined", run=self._run, client=client, detail=row.detail)
            self._changed.discard(task)

    async def _take_in_answers(self, led: Led, current: Current) -> None:
        arrived, self._arrived = self._arrived, set()
        if arrived is not None and not arrived:
            return
        try:
            rows = await self._answers.undecided(self._run, current.index, arrived, oldest=current.oldest)
        except ProblemError:
            self._arrived = None
            raise
        for row in rows:
            if row.task not in self._checks:
                deciding = self._decide(led, current, row, verify=self._verify)
                self._checks[row.task] = asyncio.create_task(deciding, name=f"decide-{row.task}")
        self._verify = False
        for task in (arrived or set()) - self._checks.keys():
            self._tally.answer(self._run, "late", self._clock.wall())
            self._signals.publish(f"task:{task}")  # too late for this exchange

    async def _decide(self, led: Led, current: Current, row: AnswerRow, *, verify: bool) -> None:
        """Decides on one answer, and has the leader look again."""
        try:
            if not await self._deciding.decide(led, current, row, verify=verify):
                self._arrived = None  # to be looked at when the next exchange is open
        except ProblemError as error:
            _log.error("an answer could not be decided on", run=self._run, task=row.task, reason=error.reason)
            self._troubles.note(self._run, "answers", error)
            self._signals.publish(f"events:{self._run}")
            await asyncio.sleep(RETRY_S)
            self._arrived = None
        finally:
            del self._checks[row.task]
            self._signals.publish(f"run:{self._run}", "decided")

    async def close(self) -> None:
        """Ends the decisions under way; the answers stay undecided."""
        for check in list(self._checks.values()):
            check.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await check
