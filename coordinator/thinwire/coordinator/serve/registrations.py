"""Registrations: which task a client gets, and how long it waits for one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from thinwire.coordinator.records.clients import Client
from thinwire.coordinator.records.runs import Runs
from thinwire.coordinator.records.tasks import OpenTask, Tasks
from thinwire.coordinator.runs.rows import RunRow
from thinwire.coordinator.signals.signals import Signals
from thinwire.protocol.messages import Registration, TaskMessage
from thinwire.protocol.reasons import ProblemError

from .enrolment import Enrolment
from .presence import Presence
from .tasks import TaskFacts, TaskMessages

MIN_WAIT_S: Final = 0.1
"""A registration that would not wait still gives a run's leader the time to offer it a task."""
LINGER_S: Final = 0.2
"""An answer waits this long for its exchange to close, so that the next task rides on the reply."""

MOST_HELD: Final = 16
"""Runs whose parts a registration may name."""


class FinishedError(ProblemError):
    """`run-finished`, with the final model of the newest run the client could have served."""

    def __init__(self, run: RunRow) -> None:
        super().__init__("run-finished", f"the run {run.name!r} is {run.outcome}")
        self.model = run.model


class Registrations:
    """One waiting poll per client; a newer one replaces it. Rows say what there is, signals when to look."""

    def __init__(
        self,
        enrolment: Enrolment,
        presence: Presence,
        runs: Runs,
        tasks: Tasks,
        messages: TaskMessages,
        signals: Signals,
    ) -> None:
        self._enrolment = enrolment
        self._presence = presence
        self._runs = runs
        self._tasks = tasks
        self._messages = messages
        self._signals = signals
        self._looks: dict[str, asyncio.Task[list[RunRow]]] = {}
        self._stopping = False

    def stop(self) -> None:
        """Nobody waits from now on: the process ends."""
        self._stopping = True
        self._signals.publish("stop")

    async def look(self) -> None:
        """Looks whether there is something for those that wait here: a hint may have been lost on its way from another
        process. Raises: `storage-failed`.
        """
        for name in await self._presence.asked():
            self._signals.remind(f"client:{name}")

    async def next_task(
        self,
        client: Client,
        registration: Registration,
        wait_s: float,
        *,
        inline: bool,
        hung_up: Callable[[], Awaitable[None]],
    ) -> TaskMessage | None:
        """The client's open task, or None after `wait_s` or when a newer poll came. `hung_up` returns when the
        connection is gone. Raises: `run-finished`, `model-mismatch`, `token-invalid` (revoked or replaced meanwhile),
        `client-doubled`, `storage-failed`, `storage-full`.
        """
        await self._presence.begin(client.name, registration.process, registration.start)
        until = time.monotonic() + max(wait_s, MIN_WAIT_S)
        mine = f"client:{client.name}"
        gone = asyncio.ensure_future(hung_up())
        gone.add_done_callback(lambda _: self._signals.publish(mine, "gone"))
        try:
            with (  # in this order: a poll that heard of its own arrival would look twice
                self._presence.park(client.name) as poll,
                self._signals.subscribe(mine, f"group:{client.group}", "stop") as heard,
            ):
                problem = await self._arrive(client, registration)
                while True:
                    if not self._enrolment.is_current(client):
                        raise ProblemError("token-invalid")
                    message = await self._task(client.name, registration.holds or {}, inline=inline)
                    if message is not None:
                        return message
                    if problem is not None:
                        raise problem
                    try:
                        await self._check_use(client, registration.spec)
                    except FinishedError:
                        poll.gone = True  # whoever hears this ends; one that does not polls again
                        raise
                    left_s = until - time.monotonic()
                    if left_s <= 0 or self._stopping:
                        return None
                    hints = await heard.wait(left_s)
                    if poll.is_replaced_by(hints):
                        return None
                    if gone.done():
                        poll.gone = True
                        break
        finally:
            gone.cancel()
        with contextlib.suppress(ProblemError):
            await self._presence.save()
        return None

    async def _arrive(self, client: Client, registration: Registration) -> ProblemError | None:
        """Tells the runs that the client waits. Why that cannot be stored, if so: a task that is open already can be
        given all the same.
        """
        try:
            await self._presence.arrive(client.name, registration)
        except ProblemError as problem:
            return problem
        self._signals.publish(f"polls:{client.group}", client.name)
        return None

    async def following(
        self,
        client: Client,
        answered: TaskFacts,
        wait_s: float = 0.0,
        *,
        inline: bool,
        hung_up: Callable[[], Awaitable[None]] | None = None,
    ) -> TaskMessage | None:
        """The client's next task, where it opens within a moment, or within `wait_s`: then the client waits as in a
        poll, and where that fails it hears why when it polls. To have answered a task implies holding its parts.

        Raises: `storage-failed`.
        """
        task = await self._at_once(client, answered)
        if task is not None:
            _, holds = await self._said(client.name, answered)
            return await self._messages.of(task, client.name, holds, inline=inline)
        if wait_s <= LINGER_S or hung_up is None:
            return None
        spec, holds = await self._said(client.name, answered)
        holding = Registration(spec=spec, holds=dict(list(holds.items())[-MOST_HELD:]))
        try:
            return await self.next_task(client, holding, wait_s - LINGER_S, inline=inline, hung_up=hung_up)
        except ProblemError:
            return None

    async def _said(self, client: str, answered: TaskFacts) -> tuple[bytes | None, dict[str, int]]:
        """The spec of the client's model, and what it holds by now."""
        said = await self._presence.said(client)
        return said.spec, {**(said.holds or {}), answered.run: answered.exchange}

    async def _at_once(self, client: Client, answered: TaskFacts) -> OpenTask | None:
        until = time.monotonic() + LINGER_S
        with self._signals.subscribe(f"client:{client.name}", f"group:{client.group}", "stop") as heard:
            while (task := await self._tasks.open_of(client.name)) is None:
                left_s = until - time.monotonic()
                if left_s <= 0 or self._stopping or await self._runs.is_over(answered.run):
                    return None
                if not await heard.wait(left_s):
                    return None
        self._presence.touch(client.name)  # it hears of this task now
        return task

    async def _task(self, client: str, holds: Mapping[str, int], *, inline: bool) -> TaskMessage | None:
        """The client's open task, the same whenever it asks."""
        task = await self._tasks.open_of(client)
        return None if task is None else await self._messages.of(task, client, holds, inline=inline)

    async def _check_use(self, client: Client, spec: bytes | None) -> None:
        """Raises where there is nothing to wait for: all runs are over, or none is for the client's model."""
        if await self._runs.wants(client.group, spec):
            return
        runs = await self._of_group(client.group)
        fitting = [run for run in runs if spec is None or run.spec is None or spec == run.spec]
        if runs and not fitting:
            raise ProblemError("model-mismatch")
        if fitting and all(run.finished for run in fitting):
            raise FinishedError(max(fitting, key=lambda run: run.finished_at or 0.0))

    async def _of_group(self, group: str) -> list[RunRow]:
        """The group's runs as of now. Whoever asks in one turn of the loop shares a look: a hint wakes all at once."""
        look = self._looks.get(group)
        if look is None:
            look = self._looks[group] = asyncio.create_task(self._look(group), name=f"look-{group}")
        return await asyncio.shield(look)

    async def _look(self, group: str) -> list[RunRow]:
        await asyncio.sleep(0)
        # Whoever asks from now on wants to know what may be written while this look is under way.
        del self._looks[group]
        return await self._runs.of_group(group)
