"""Runs as the database and the folder know them: after a stop, a crash, or the death of the machine.

A run whose files are damaged is there too: paused, with what is wrong as its reason, until `resume` finds it whole.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import structlog
from sqlalchemy import Row, select, update

from thinwire.codecs import CodecError
from thinwire.methods.checkpoint import unpack_state
from thinwire.methods.definition import Definition, define
from thinwire.methods.payloads import decode_answer
from thinwire.methods.values import EVALUATE, Contribution, State
from thinwire.protocol.identity import client_seed
from thinwire.protocol.messages import ExchangeMetrics
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings

from . import tables
from .broadcast import digests_of, names_of
from .exchange import Exchange, Slot
from .folder import read_mapped
from .repair import broadcast_before, opened_broadcast
from .runs import OpenExchange, Run, Told, admitted
from .spool import Spool

if TYPE_CHECKING:
    from .coordinator import Coordinator

_log = structlog.get_logger("thinwire.coordinator")


async def restore_runs(coordinator: Coordinator) -> None:
    """Every run there is, the unfinished ones ready to be driven on."""
    for row in await coordinator.store.read(select(tables.runs).order_by(tables.runs.c.created_at)):
        settings = RunSettings.model_validate(row.settings)
        try:
            definition = define(row.id, settings, spec=row.spec, parameters=row.parameters)
        except ProblemError as error:
            _log.error("run cannot be restored", run=row.id, error=str(error))
            continue
        run = coordinator.runs[row.id] = _stored(row, definition)
        await _restore_or_wait(coordinator, row, run)


async def restore_damaged(coordinator: Coordinator, run: Run) -> None:
    """Tries a damaged run again. Raises: `storage-failed`, with what is still wrong."""
    (row,) = await coordinator.store.read(select(tables.runs).where(tables.runs.c.id == run.id))
    await _restore_or_wait(coordinator, row, run)
    if run.damaged:
        raise ProblemError("storage-failed", run.reason or "")
    run.tell_state()


async def _restore_or_wait(coordinator: Coordinator, row: Row[Any], run: Run) -> None:
    """The run as it was left; or paused, where something of it is damaged."""
    run.damaged, run.kept = False, set()
    run.state, run.reason, run.command = row.state, row.reason, row.command
    try:
        await _restore(coordinator, row, run)
    except (ProblemError, CodecError, OSError) as error:
        _log.error("run cannot be restored", run=row.id, error=str(error))
        what = str(error) if isinstance(error, OSError) else error.detail
        run.damaged, run.state, run.command = True, "paused", None
        run.reason = f"storage-failed: {what}; restore it from a backup and resume the run, or stop it"[:1000]
        run.kept = await _payloads_of(coordinator, row)
        for task in [task for task, entry in coordinator.tasks.items() if entry[0] is run]:
            del coordinator.tasks[task]


async def _payloads_of(coordinator: Coordinator, row: Row[Any]) -> set[bytes]:
    """What the exchange that stands open, or comes next, and the one before may need."""
    table = tables.exchanges
    query = select(table).where(table.c.run == row.id, table.c.exchange >= row.exchange - 1)
    kept = set()
    for exchange in await coordinator.store.read(query):
        kept |= {exchange.plan, *digests_of(exchange.parts)}
    return kept


def _stored(row: Row[Any], definition: Definition) -> Run:
    return Run(
        definition,
        State(row.round, row.step, {}),
        state=row.state,
        outcome=row.outcome,
        reason=row.reason,
        command=row.command,
        index=row.exchange,
        model=row.model,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )


async def _restore(coordinator: Coordinator, row: Row[Any], run: Run) -> None:
    """Raises: `CodecError`, `ProblemError`, `OSError`."""
    by_index = await _read_closed(coordinator, run)
    if run.finished:
        return
    store, folder, tasks = coordinator.store, coordinator.folder, tables.tasks
    path = folder.checkpoint(run.id, run.index)
    try:
        run.at = unpack_state(cast(bytes, read_mapped(path)))  # a mapped file reads like bytes
    except CodecError as error:
        raise ProblemError("storage-failed", f"{path.relative_to(folder.root)}: {error.detail}") from None
    opened = by_index.get(run.index)
    if (last := by_index.get(run.index - 1)) is not None:
        run.last_kind = last.kind
        counted = select(tasks.c.client).where(
            tasks.c.run == run.id, tasks.c.exchange == run.index - 1, tasks.c.state == "accepted"
        )
        run.counted = sorted(client.client for client in await store.read(counted))
        run.broadcasts[run.index - 1] = names_of(last.parts)
        run.plan_before = last.plan
        try:
            before = await coordinator.compute(broadcast_before, folder, run, last)
            run.before = before if run.definition.builds_on_broadcasts else before.without_arrays()
        except (ProblemError, CodecError, OSError):
            if opened is None:
                raise  # the next broadcast builds on it
            _log.warning("the broadcast before the open exchange is damaged", run=run.id, exchange=last.exchange)
    if opened is not None:
        known = await store.read(select(tasks).where(tasks.c.run == run.id, tasks.c.exchange == run.index))
        await _reopen(coordinator, run, opened, known)


async def _read_closed(coordinator: Coordinator, run: Run) -> dict[int, Row[Any]]:
    """Notes what the run's closed exchanges gave and who took part; returns the rows of all, by index."""
    store, exchanges, tasks = coordinator.store, tables.exchanges, tables.tasks
    rows = await store.read(select(exchanges).where(exchanges.c.run == run.id).order_by(exchanges.c.exchange))
    run.closed.clear()
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
    return {exchange.exchange: exchange for exchange in rows}


async def _reopen(coordinator: Coordinator, run: Run, row: Row[Any], known: Sequence[Row[Any]]) -> None:
    """The open exchange with its slots, its remaining time, and the sum of the answers that lie in the folder."""
    server = run.definition.server
    task = server.evaluation(run.at) if row.kind == EVALUATE else server.task(run.at)
    if task is None:
        raise ProblemError("internal", "the database and the checkpoint belong to different exchanges")
    broadcast = await coordinator.compute(opened_broadcast, coordinator.folder, run, row, task)
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
    chains, spool = run.definition.chains(row.kind), Spool(coordinator.folder.root / "answers")
    opened = OpenExchange(row.exchange, task, chains, row.plan, broadcast, exchange, now, spool=spool)
    opened.opened_at = now - row.seconds
    opened.stored = {(one.slot, one.offer) for one in known}
    if row.kind != EVALUATE:
        opened.total = server.reducer.zero()
    for index, one in sorted(slots.items()):
        coordinator.tasks[one.id] = (run, opened, index)
        if one.state == "refused":
            opened.refusals[index] = (one.reason, one.detail)
        elif one.reason == "declined":
            opened.declined[one.client] = one.detail
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
    return admitted(run, opened, Contribution(row.slot, row.client, row.examples, arrays, row.metrics or {}))
