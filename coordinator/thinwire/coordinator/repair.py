"""What a damaged disk leaves behind: noticed before it is used, made again where that is possible, named where not.

Payloads are write-once and named by their digests, and the plan and broadcast of an exchange follow from the state
before it: a damaged one is made again, bit for bit, or the run waits for the file to be restored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import Row

from thinwire.codecs import CodecError
from thinwire.methods.checkpoint import unpack_state
from thinwire.methods.model_file import model_bytes
from thinwire.methods.values import EVALUATE, Task
from thinwire.protocol.encoding import encode_message
from thinwire.protocol.identity import broadcast_seed
from thinwire.protocol.reasons import ProblemError

from .broadcast import Broadcast, digests_of, names_of, publish_task, reload_broadcast
from .folder import Folder
from .runs import Run

if TYPE_CHECKING:
    from .coordinator import Coordinator

_log = structlog.get_logger("thinwire.coordinator")


def broadcast_before(folder: Folder, run: Run, row: Row[Any]) -> Broadcast:
    """The broadcast of the exchange before the one that is open or comes next; what is damaged is made again from the
    checkpoint before it, if no base was lost in it. Raises: `storage-failed`, `CodecError`, `OSError`.
    """
    try:
        return _stored(folder, run, row)
    except ProblemError as error:
        server, state = run.definition.server, unpack_state(folder.checkpoint(run.id, row.exchange).read_bytes())
        task = server.evaluation(state) if row.kind == EVALUATE else server.task(state)
        if task is None:
            raise
        return _made_again(folder, run, row, task, None, error)


def opened_broadcast(folder: Folder, run: Run, row: Row[Any], task: Task) -> Broadcast:
    """The broadcast of the open exchange, and its plan in the folder; what is damaged is made again.

    Raises: `storage-failed`, `CodecError`.
    """
    definition = run.definition
    try:
        broadcast = _stored(folder, run, row)
    except ProblemError as error:
        base = run.before if definition.chains(row.kind).down.needs_reference else None
        broadcast = _made_again(folder, run, row, task, base, error)
    if not folder.is_whole(row.plan):
        _log.warning("the plan is made again", run=run.id, exchange=row.exchange)
        folder.drop_damaged(row.plan)
        specs = {name: part.spec for name, part in broadcast.parts.items()}
        if folder.put_payload(encode_message(definition.plan(task, specs))) != row.plan:
            raise ProblemError("storage-failed", f"the plan {row.plan.hex()} of exchange {row.exchange} is damaged")
    return broadcast


def _stored(folder: Folder, run: Run, row: Row[Any]) -> Broadcast:
    """As the row names it. Raises: `storage-failed` (a payload is damaged), `CodecError`."""
    for digest in digests_of(row.parts):
        if not folder.is_whole(digest):
            raise ProblemError("storage-failed", f"the payload {digest.hex()} of exchange {row.exchange} is damaged")
    seed = broadcast_seed(run.definition.run.seed, row.round, row.step)
    return reload_broadcast(row.parts, run.definition.chains(row.kind), seed, folder)


def _made_again(
    folder: Folder, run: Run, row: Row[Any], task: Task, base: Broadcast | None, error: ProblemError
) -> Broadcast:
    """Raises: the error where what is made is not what was."""
    _log.warning("a payload is made again", run=run.id, error=error.detail)
    for digest in digests_of(row.parts):
        folder.drop_damaged(digest)
    chains = run.definition.chains(row.kind)
    broadcast = publish_task(task, chains, run.definition.run.seed, base, folder)
    if broadcast.names != names_of(row.parts):
        raise error
    return broadcast


async def final_model(coordinator: Coordinator, run: Run, digest: bytes) -> None:
    """Sees to it that the final model's payload is whole; looked at once by each process.

    Raises: `storage-failed` where neither it nor the checkpoint that it came from is.
    """
    folder = coordinator.folder
    if digest not in folder.found_whole:
        async with coordinator.publishing:
            await coordinator.compute(_mend_model, folder, run, digest)
        folder.found_whole.add(digest)


def _mend_model(folder: Folder, run: Run, digest: bytes) -> None:
    if folder.is_whole(digest):
        return
    folder.drop_damaged(digest)
    try:
        state = unpack_state(folder.checkpoint(run.id, run.index).read_bytes())
        arrays = run.definition.server.model(state)
        mended = arrays is not None and folder.put_payload(model_bytes(arrays)) == digest
    except (CodecError, OSError) as error:
        _log.error("the final model cannot be made again", run=run.id, error=str(error))
        mended = False
    if not mended:
        raise ProblemError("storage-failed", f"the stored model {digest.hex()} is damaged")
    _log.warning("the final model was damaged and has been made again", run=run.id)
