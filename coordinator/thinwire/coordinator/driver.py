"""The loop of a run: opens exchanges, offers tasks, closes, finishes. Nothing else moves a run on.

Whatever computes or writes files runs in a thread. An exchange is closed in one durable step: checkpoint and database,
synced, before any client can learn of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import update

from thinwire.codecs import CodecError
from thinwire.methods.model_file import model_bytes
from thinwire.methods.values import State, Task
from thinwire.protocol.encoding import encode_message
from thinwire.protocol.fields import RunOutcome
from thinwire.protocol.messages import ExchangeMetrics
from thinwire.protocol.reasons import ProblemError

from . import rows, tables
from .allocator import give_back_freed_memory
from .broadcast import publish_task
from .budget import beyond_budget
from .exchange import again, begin, close, due, lose, offer
from .problems import storage_problem
from .runs import OpenExchange, Run, is_evaluation, weighted_metrics
from .spool import Spool

if TYPE_CHECKING:
    from .coordinator import Coordinator

RETRY_S = 5.0
"""After a failed write the same step is tried again."""
LOOK_S = 30.0
_LONGEST_REASON = 1000
_log = structlog.get_logger("thinwire.coordinator")


class Driver:
    """Drives one run from where it stands to its end."""

    def __init__(self, coordinator: Coordinator, run: Run) -> None:
        self._coordinator = coordinator
        self._store = coordinator.store
        self._run = run

    async def drive(self) -> None:
        run, failed = self._run, ""
        while not run.finished:
            run.wake.clear()
            try:
                wait_s = await (self.finish("failed", failed) if failed else self._step())
                run.trouble("exchange", None)
            except (ProblemError, OSError) as error:
                problem = error if isinstance(error, ProblemError) else storage_problem(error)
                _log.error("run cannot go on", run=run.id, reason=problem.reason, detail=problem.detail)
                run.trouble("exchange", problem)
                wait_s = RETRY_S
            except CodecError as error:
                failed, wait_s = f"{error.reason}: {error.detail}", 0.0
            except Exception:
                _log.exception("defect", run=run.id)
                wait_s = RETRY_S if failed else 0.0
                failed = "internal: a defect of the method or the coordinator; see its log"
            if wait_s > 0 and not run.finished:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await run.wake.wait()

    async def _step(self) -> float:
        """Does what can be done now; the seconds to wait for something to happen, 0 to go on at once."""
        run = self._run
        now = time.monotonic()
        if run.command is not None and (run.open is None or run.state == "paused" or run.command.endswith("drop")):
            if run.open is not None and run.open.adding:
                return LOOK_S  # the last addition wakes us
            await self._obey(run.command)
            return 0
        if run.state == "paused":
            return LOOK_S
        if run.state == "pending":
            if len(self._coordinator.present(run)) < run.definition.run.present:
                return LOOK_S
            await self._set_state("running")
        if run.open is None:
            await self._open()
            return 0
        opened = run.open
        if run.resumed:
            run.resumed = False
            exchange = opened.exchange
            if exchange.offers >= exchange.policy.max_offers or (
                exchange.due_at is not None and exchange.due_at <= now
            ):
                await self._offer_again(opened)
        await self._offer(opened)
        if opened is not run.open:
            return 0
        members = self._coordinator.members(run)
        match due(opened.exchange, now, present=self._coordinator.present(run), members=members):
            case "close" | "missed" if opened.adding:
                return LOOK_S  # the last addition wakes us
            case "close":
                await self._close(opened)
                return 0
            case "missed":
                await self._missed(opened)
                return 0
        left_s = LOOK_S if opened.exchange.due_at is None else opened.exchange.due_at - now
        return max(0.01, min(LOOK_S, left_s))

    async def _obey(self, command: str) -> None:
        run = self._run
        if command.startswith("stop"):
            await self.finish("stopped", None)
        else:
            if run.open is not None and command.endswith("drop"):
                await self._offer_again(run.open, drop=True)
            run.command = None
            await self._set_state("paused", "by the operator")
        run.command = None
        await self._tell_waiting()

    async def _tell_waiting(self) -> None:
        async with self._run.changed:
            self._run.changed.notify_all()

    # -- opening ----------------------------------------------------------------------------------------------

    async def _open(self) -> None:
        beyond = beyond_budget(self._run, self._coordinator.ledger)
        task, reason = await self._coordinator.compute(self._next_task, beyond)
        if task is None:
            await self.finish("completed", reason)
            return
        async with self._coordinator.publishing:
            self.enter(await self._publish(task))

    async def _publish(self, task: Task) -> OpenExchange:
        """The exchange of this task: its payloads in the folder, its row in the database."""
        run, definition, folder = self._run, self._run.definition, self._coordinator.folder
        compute = self._coordinator.compute
        chains = definition.chains(task.kind)
        base = run.before if chains.down.needs_reference else None
        broadcast = await compute(publish_task, task, chains, definition.run.seed, base, folder)
        specs = {name: part.spec for name, part in broadcast.parts.items()}
        digest = await compute(folder.put_payload, encode_message(definition.plan(task, specs)))
        now = time.monotonic()
        exchange = begin(run.policy(task), definition.run.seed, task.round, now, run.counted)
        spool = Spool(folder.root / "answers")
        opened = OpenExchange(run.index, task, chains, digest, broadcast, exchange, now, spool=spool)
        await self._store.write(rows.opening(run, opened))
        return opened

    def _next_task(self, beyond: str | None) -> tuple[Task | None, str | None]:
        """The task, and where there is none though the method would go on: why."""
        run, server = self._run, self._run.definition.server
        task, reason = server.task(run.at), None
        if task is not None and beyond is not None and task.step == 0:
            task, reason = None, beyond
        if task is None and run.definition.run.evaluate and run.last_kind != "evaluate":
            task = server.evaluation(run.at)
        return task, reason

    def enter(self, opened: OpenExchange) -> None:
        """The exchange is open from now on."""
        run = self._run
        if not is_evaluation(opened.task) and opened.total is None:
            opened.total = run.definition.server.reducer.zero()
        run.open = opened
        run.broadcasts[opened.index] = opened.broadcast.names
        run.tell_state()

    async def _offer(self, opened: OpenExchange) -> None:
        """Asks as many clients as are wanted; they are told when the database knows."""
        run = self._run
        for slot in opened.exchange.slots:
            # Revoked while this exchange was being made, or before a given cohort was asked again: nobody will answer.
            if slot.state == "open" and self._coordinator.access.clients[slot.client].revoked:
                opened.exchange = lose(opened.exchange, slot.client)
        opened.exchange, _ = offer(opened.exchange, self._coordinator.free(run))
        new = [
            slot
            for slot in opened.exchange.slots
            if slot.state == "open" and (slot.index, slot.offer) not in opened.stored
        ]
        if not new:
            return
        await self._store.write(rows.asking(run, opened, new))
        for slot in new:
            opened.stored.add((slot.index, slot.offer))
            run.took_part.add(slot.client)
            self._coordinator.tasks[opened.id_of(run.id, slot)] = (run, opened, slot.index)
            self._coordinator.presence.wake(slot.client)
        await self._tell_waiting()

    # -- closing ----------------------------------------------------------------------------------------------

    async def _close(self, opened: OpenExchange) -> None:
        run = self._run
        if is_evaluation(opened.task):
            state: State = run.at
        else:
            # Closed before the sum is read: an answer that comes now is late.
            opened.exchange = close(opened.exchange)
            if opened.after is None:
                opened.after = await self._coordinator.compute(run.definition.server.advance, run.at, opened.total)
                # Of the sum and the next checkpoint only one is needed; a failed write begins again from the state.
                opened.total = None
            state = opened.after
        await self._settle(opened, state)

    async def _missed(self, opened: OpenExchange) -> None:
        """The quorum was missed: the method goes on without, or the exchange is offered again, or the run pauses."""
        run, exchange = self._run, opened.exchange
        if is_evaluation(opened.task):
            await self._settle(opened, run.at)
            return
        state = await self._coordinator.compute(run.definition.server.give_up, run.at)
        if opened.exchange is not exchange:
            return  # an answer came meanwhile: look again
        if state is not None:
            await self._settle(opened, state)
        elif exchange.offers >= exchange.policy.max_offers:
            answers, quorum = exchange.count("accepted"), exchange.policy.quorum
            reason = f"round {opened.task.round}: {answers} of {quorum} answers after {exchange.offers} offers"
            declined = "".join(f"; {name} declined: {detail}" for name, detail in sorted(opened.declined.items()))
            await self._set_state("paused", (reason + declined)[:_LONGEST_REASON])
        else:
            await self._offer_again(opened)

    async def _offer_again(self, opened: OpenExchange, *, drop: bool = False) -> None:
        """The next offer of the open exchange."""
        run = self._run
        before = opened.exchange
        opened.exchange = again(before, time.monotonic(), drop=drop)
        unanswered = [slot for slot in before.slots if slot.state == "open" or (drop and slot.state == "accepted")]
        ids = [opened.id_of(run.id, slot) for slot in unanswered]
        await self._store.write(*rows.renewing(run, opened, ids))
        self._forget(ids)
        if drop:
            opened.told.clear()
            if not is_evaluation(opened.task):
                opened.after = None
                opened.total = run.definition.server.reducer.zero()
            await self._coordinator.compute(self._coordinator.folder.drop_answers, ids)
        run.tell_state()

    async def _settle(self, opened: OpenExchange, state: State) -> None:
        """Closes the exchange: durable first, then visible."""
        run, folder = self._run, self._coordinator.folder
        closed = opened.exchange = close(opened.exchange)
        result = ExchangeMetrics(
            exchange=opened.index, round=opened.task.round, step=opened.task.step, kind=opened.task.kind,
            answers=len(opened.told), offers=closed.offers, seconds=time.monotonic() - opened.opened_at,
            metrics=weighted_metrics(opened.told.values(), run.definition.run.max_examples),
            uplink_bytes=0, downlink_bytes=0, uplink_payload_bytes=0, downlink_payload_bytes=0,
            uplink_bytes_before=0, downlink_bytes_before=0,
        )  # fmt: skip
        state = await self._coordinator.compute(folder.put_state, run.id, opened.index + 1, state)
        await self._store.write(*rows.closing(run, result, state.round, state.step), durable=True)
        run.at, run.index, run.open = state, opened.index + 1, None
        run.before = opened.broadcast if run.definition.builds_on_broadcasts else opened.broadcast.without_arrays()
        run.plan_before = opened.plan
        run.counted, run.last_kind, run.reason = closed.contributors, opened.task.kind, None
        run.closed.append(result)
        ids = [opened.id_of(run.id, slot) for slot in closed.slots]
        self._forget(ids)
        for index in [index for index in run.broadcasts if index < opened.index]:
            del run.broadcasts[index]
        run.tell("exchange", self._coordinator.with_bytes(run, result).model_dump_json(exclude_none=True))
        run.tell_state()
        await self._coordinator.release(run, ids)

    def _forget(self, ids: list[str]) -> None:
        for task in ids:
            self._coordinator.tasks.pop(task, None)

    # -- states -----------------------------------------------------------------------------------------------

    async def _set_state(self, state: Any, reason: str | None = None) -> None:
        run, table = self._run, tables.runs
        await self._store.write(
            update(table).where(table.c.id == run.id).values(state=state, reason=reason, command=run.command)
        )
        run.state, run.reason = state, reason
        run.tell_state()

    async def finish(self, outcome: RunOutcome, reason: str | None) -> float:
        """The run is over; its final model is a payload. Returns 0.0, the seconds to wait for anything more."""
        run = self._run
        opened = run.open
        arrays = None if run.damaged else run.definition.server.model(run.at)
        await self._coordinator.compute(give_back_freed_memory)
        async with self._coordinator.publishing:
            if arrays is not None:
                data = await self._coordinator.compute(model_bytes, arrays)
                run.model = await self._coordinator.compute(self._coordinator.folder.put_payload, data)
        now = time.time()
        values = {"outcome": outcome, "reason": reason, "model": run.model, "finished_at": now}
        await self._store.write(*rows.finishing(run, values), durable=True)
        run.state, run.outcome, run.reason, run.finished_at = "finished", outcome, reason, now
        ids = []
        if opened is not None:
            ids = [opened.id_of(run.id, slot) for slot in opened.exchange.slots]
            opened.exchange = close(opened.exchange)
            self._forget(ids)
            run.open = None
        run.before, run.plan_before, run.kept = None, None, set()
        run.broadcasts.clear()
        run.tell_state()
        await self._tell_waiting()
        self._coordinator.presence.wake_all()
        await self._coordinator.release(run, ids)
        return 0.0
