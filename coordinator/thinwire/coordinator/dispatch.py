"""Registrations: which task a client gets, and how long it waits for one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from thinwire.codecs import Spec
from thinwire.protocol.identity import client_seed
from thinwire.protocol.messages import PartMessage, Registration, TaskMessage
from thinwire.protocol.reasons import ProblemError

from .access import Client
from .broadcast import Form
from .exchange import register
from .presence import Seen, fits
from .runs import OpenExchange, Run

if TYPE_CHECKING:
    from .coordinator import Coordinator

MIN_WAIT_S = 0.1
"""A registration that would not wait still gives the driver the time to offer it a task."""


class FinishedError(ProblemError):
    """`run-finished`, with the final model of the newest run the client could have served."""

    def __init__(self, run: Run) -> None:
        super().__init__("run-finished", f"the run {run.definition.run.name!r} is {run.outcome}")
        self.model = run.model


class Dispatch:
    """One parked poll per client; a newer one replaces it."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

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
        connection is gone. Raises: `run-finished`, `model-mismatch`, `token-invalid` (revoked or replaced
        meanwhile).
        """
        coordinator, presence = self._coordinator, self._coordinator.presence
        seen = presence.register(client, registration.spec, registration.holds or {}, time.monotonic(), time.time())
        until = time.monotonic() + max(wait_s, MIN_WAIT_S)
        future = presence.park(client.name)
        gone = asyncio.ensure_future(hung_up())
        try:
            while True:
                if not coordinator.access.is_current(client):
                    raise ProblemError("token-invalid")
                message = await self.task_for(seen, inline=inline)
                if message is not None:
                    return message
                self._check_use(client, registration)
                for run in coordinator.runs.values():
                    run.wake.set()
                left_s = until - time.monotonic()
                if left_s <= 0 or not coordinator.ready:
                    return None
                waiting: set[asyncio.Future[Any]] = {future, gone}
                await asyncio.wait(waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
                if future.done():
                    if not future.result():
                        return None
                    future = presence.park(client.name)
                elif gone.done():
                    presence.hung_up(client.name)
                    return None
        finally:
            presence.leave(client.name, future)
            seen.at = max(seen.at, time.monotonic())
            gone.cancel()

    async def task_for(self, seen: Seen, *, inline: bool) -> TaskMessage | None:
        """The client's open task, the same whenever it asks."""
        for run in list(self._coordinator.runs.values()):
            opened = run.open
            if opened is None or run.state != "running":
                continue
            slot = register(opened.exchange, seen.client.name)
            if slot is not None and (slot.index, slot.offer) in opened.stored:
                return await self._message(run, opened, slot.index, seen, inline=inline)
        return None

    async def _message(self, run: Run, opened: OpenExchange, index: int, seen: Seen, *, inline: bool) -> TaskMessage:
        slot = opened.exchange.slots[index]
        held = seen.holds.get(run.id)
        parts = opened.broadcast.messages(
            run.broadcasts.get(held, {}) if held is not None else {},
            is_previous=held == opened.index - 1,
            inline=inline,
        )
        private = await self._private(run, opened, seen.client.name)
        if private is not None:
            room = inline and private[1].inline is not None and not any(part.inline for part in parts)
            spec = private[0].to_plain()
            form = private[1]
            if room:
                parts.append(PartMessage(inline=form.inline, spec=spec))
            else:
                parts.append(PartMessage(digest=form.digest, size=form.size, spec=spec))
        task = opened.task
        due_at = opened.exchange.due_at
        return TaskMessage(
            task=opened.id_of(run.id, slot),
            run=run.id,
            plan=opened.plan,
            exchange=opened.index,
            round=task.round,
            step=task.step,
            options=dict(task.options) or None,
            parts=parts,
            deadline_s=None if due_at is None else max(0.0, round(due_at - time.monotonic(), 1)),
        )

    async def _private(self, run: Run, opened: OpenExchange, client: str) -> tuple[Spec, Form] | None:
        """The part for this client alone, made when it is first asked for."""
        if client not in opened.private:
            async with self._coordinator.publishing:
                if client not in opened.private:
                    opened.private[client] = await self._coordinator.compute(self._make_private, run, opened, client)
        return opened.private[client]

    def _make_private(self, run: Run, opened: OpenExchange, client: str) -> tuple[Spec, Form] | None:
        arrays = run.definition.server.private(run.at, opened.task, client)
        if arrays is None:
            return None
        spec = Spec.of(arrays)
        seed = client_seed(run.definition.run.seed, opened.task.round, opened.task.step, client)
        data = opened.chains.private.encode(arrays, spec, seed=seed)
        return spec, Form.of(self._coordinator.folder, data)

    def _check_use(self, client: Client, registration: Registration) -> None:
        """Raises where there is nothing to wait for: all runs are over, or none is for the client's model."""
        runs = [run for run in self._coordinator.runs.values() if run.definition.run.group == client.group]
        fitting = [run for run in runs if fits(registration.spec, run)]
        if runs and not fitting:
            raise ProblemError("model-mismatch")
        if fitting and all(run.finished for run in fitting):
            raise FinishedError(max(fitting, key=lambda run: run.finished_at or 0.0))
