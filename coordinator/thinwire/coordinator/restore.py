"""Runs as the database and the folder know them: after a stop, a crash, or the death of the machine."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import structlog
from sqlalchemy import Row, select, update

from thinwire.codecs import CodecError
from thinwire.methods.checkpoint import unpack_state
from thinwire.methods.interface import EVALUATE, Contribution, State
from thinwire.methods.payloads import decode_answer
from thinwire.protocol.identity import broadcast_seed, client_seed
from thinwire.protocol.messages import ExchangeMetrics
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

from . import tables
from .broadcast import Broadcast, names_of, reload_broadcast
from .exchange import Exchange, Slot
from .folder import read_mapped
from .plans import Definition, define
from .runs import OpenExchange, Run, Told

if TYPE_CHECKING:
    from .coordinator import Coordinator

_log = structlog.get_logger("thinwire.coordinator")


async def restore_runs(coordinator: Coordinator) -> None:
    """Every run there is, the unfinished ones ready to be driven on."""
    for row in await coordinator.store.read(select(tables.runs).order_by(tables.runs.c.created_at)):
        settings = RunSettings.model_validate(row.settings)
        try:
            definition = define(row.id, settings, spec=row.spec, parameters=row.parameters)
            run = await _restore(coordinator, row, definition)
        except (ProblemError, CodecError, OSError) as error:
            _log.error("run cannot be restored", run=row.id, error=str(error))
            continue
        coordinator.runs[run.id] = run


async def _restore(coordinator: Coordinator, row: Row[Any], definition: Definition) -> Run:
    store, folder = coordinator.store, coordinator.folder
    path = folder.checkpoint(row.id, row.exchange)
    finished = row.state == "finished"
    state = unpack_state(path.read_bytes()) if path.exists() or not finished else State(row.round, row.step, {})
    run = Run(
        definition,
        state,
        state=row.state,
        outcome=row.outcome,
        reason=row.reason,
        command=row.command,
        index=row.exchange,
        model=row.model,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
    exchanges, tasks = tables.exchanges, tables.tasks
    rows = await store.read(select(exchanges).where(exchanges.c.run == run.id).order_by(exchanges.c.exchange))
    for exchange in rows:
        if exchange.closed:
            run.closed.append(
                ExchangeMetrics(
                    exchange=exchange.exchange,
                    round=exchange.round,
                    step=exchange.step,
                    kind=exchange.kind,
                    answers=exchange.answers,
                    offers=exchange.offers,
                    metrics=exchange.metrics,
                    seconds=exchange.seconds,
                    uplink_bytes=0,
                    downlink_bytes=0,
                    uplink_payload_bytes=0,
                    downlink_payload_bytes=0,
                    uplink_bytes_before=0,
                    downlink_bytes_before=0,
                )
            )
    run.took_part.update(
        client.client for client in await store.read(select(tasks.c.client).where(tasks.c.run == run.id).distinct())
    )
    if finished:
        return run
    by_index = {exchange.exchange: exchange for exchange in rows}
    if (last := by_index.get(run.index - 1)) is not None:
        run.last_kind = last.kind
        counted = select(tasks.c.client).where(
            tasks.c.run == run.id, tasks.c.exchange == run.index - 1, tasks.c.state == "accepted"
        )
        run.counted = sorted(client.client for client in await store.read(counted))
        run.before = await coordinator.compute(_broadcast, coordinator, run, last)
        run.broadcasts[run.index - 1] = names_of(last.parts)
        run.plan_before = last.plan
    if (opened := by_index.get(run.index)) is not None:
        known = await store.read(select(tasks).where(tasks.c.run == run.id, tasks.c.exchange == run.index))
        await _reopen(coordinator, run, opened, known)
    return run


def _broadcast(coordinator: Coordinator, run: Run, row: Row[Any]) -> Broadcast:
    seed = broadcast_seed(run.definition.run.seed, row.round, row.step)
    return reload_broadcast(row.parts, run.definition.chains(row.kind), seed, coordinator.folder)


async def _reopen(coordinator: Coordinator, run: Run, row: Row[Any], known: Sequence[Row[Any]]) -> None:
    """The open exchange with its slots, its remaining time, and the sum of the answers that lie in the folder."""
    server = run.definition.server
    task = server.evaluation(run.at) if row.kind == EVALUATE else server.task(run.at)
    if task is None:
        raise ProblemError("internal", "the database and the checkpoint belong to different exchanges")
    broadcast = await coordinator.compute(_broadcast, coordinator, run, row)
    policy = run.policy(task)
    slots: dict[int, Row[Any]] = {}
    for one in sorted(known, key=lambda item: item.offer):
        slots[one.slot] = one
    if policy.same:
        policy = policy.of(len(slots))
    now = time.monotonic()
    exchange = Exchange(
        policy,
        run.definition.run.seed,
        task.round,
        tuple(Slot(index, slots[index].client, slots[index].offer, slots[index].state) for index in sorted(slots)),
        row.offers,
        None if row.left_s is None else now + row.left_s,
    )
    opened = OpenExchange(row.exchange, task, run.definition.chains(row.kind), row.plan, broadcast, exchange, now)
    opened.opened_at = now - row.seconds
    opened.stored = {(one.slot, one.offer) for one in known}
    if row.kind != EVALUATE:
        opened.total = server.reducer.zero()
    for index, one in sorted(slots.items()):
        coordinator.tasks[one.id] = (run, opened, index)
        if one.state == "refused":
            opened.refusals[index] = (one.reason, one.detail)
        elif one.state == "accepted":
            await _count(coordinator, run, opened, one)
    run.open = opened
    run.broadcasts[opened.index] = broadcast.names


async def _count(coordinator: Coordinator, run: Run, opened: OpenExchange, row: Row[Any]) -> None:
    """Adds a stored answer again; one that the machine lost is asked for again."""
    try:
        contribution = await coordinator.compute(_read_answer, coordinator, run, opened, row)
    except (OSError, CodecError) as error:
        _log.warning("a stored answer is lost; it is asked for again", task=row.id, error=str(error))
        slots = tuple(
            Slot(slot.index, slot.client, slot.offer, "open") if slot.index == row.slot else slot
            for slot in opened.exchange.slots
        )
        old = opened.exchange
        opened.exchange = Exchange(old.policy, old.seed, old.round, slots, old.offers, old.due_at)
        table = tables.tasks
        await coordinator.store.write(update(table).where(table.c.id == row.id).values(state="open"))
        return
    opened.told[row.slot] = Told(row.examples, row.metrics or {})
    if opened.total is not None:
        opened.total = await coordinator.compute(run.definition.server.reducer.add, opened.total, contribution)


def _read_answer(coordinator: Coordinator, run: Run, opened: OpenExchange, row: Row[Any]) -> Contribution:
    task, settings = opened.task, run.definition.run
    data = b"" if row.digest is None else cast(bytes, read_mapped(coordinator.folder.answer(row.id)))
    if row.digest is not None and hashlib.sha256(data).digest() != row.digest:
        raise CodecError("malformed", "the stored answer is torn")
    seed = client_seed(settings.seed, task.round, task.step, row.client)
    arrays = decode_answer(data, task.reply, opened.chains.up, reference=opened.reference, seed=seed)
    return Contribution(row.slot, row.client, row.examples, arrays, row.metrics or {})
