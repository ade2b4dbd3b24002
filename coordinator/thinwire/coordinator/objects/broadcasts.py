"""What exchanges have sent, read back from payloads; and the models that clients have measured of it."""

from __future__ import annotations

from typing import cast

from thinwire.codecs import Arrays
from thinwire.coordinator.runs.broadcast import Broadcast, digests_of, reload_broadcast
from thinwire.coordinator.runs.rows import ExchangeRow
from thinwire.machine.files import file_digest, read_mapped
from thinwire.methods.definition import Definition
from thinwire.methods.values import EVALUATE
from thinwire.protocol.identity import broadcast_seed
from thinwire.protocol.reasons import ProblemError

from .objects import Objects, payload
from .states import read_state


def is_whole(objects: Objects, run: str, digest: bytes) -> bool:
    """Whether a payload is there and undamaged. Raises: `OSError`."""
    try:
        return file_digest(objects.local(payload(run, digest))) == digest
    except FileNotFoundError:
        return False


def read_broadcast(objects: Objects, definition: Definition, row: ExchangeRow) -> Broadcast:
    """As the row names it. Raises: `storage-failed` (a payload is damaged or gone), `CodecError`, `OSError`."""
    for digest in digests_of(row.parts):
        if not is_whole(objects, row.run, digest):
            what = f"the payload {digest.hex()} of exchange {row.exchange} is damaged"
            raise ProblemError("storage-failed", what)
    seed = broadcast_seed(definition.run.seed, row.round, row.step)

    def content(digest: bytes) -> bytes:
        # A mapped file reads like bytes; the codecs only slice it and view it.
        return cast(bytes, read_mapped(objects.local(payload(row.run, digest))))

    chains = definition.chains(row.kind, row.lowered_bits, round_=row.round)
    return reload_broadcast(row.parts, chains, seed, content)


def read_measured(objects: Objects, definition: Definition, row: ExchangeRow) -> Arrays | None:
    """The model that the clients of this exchange have measured, as they decoded it; None where it is no whole one.

    Raises as `read_broadcast`; `FileNotFoundError`: the checkpoint before the exchange is gone.
    """
    state = read_state(objects, row.run, row.exchange, row.state_epoch)
    if row.kind == EVALUATE:
        return definition.server.model(state)
    broadcast = read_broadcast(objects, definition, row)
    return definition.server.measured(state, {name: part.arrays for name, part in broadcast.parts.items()})
