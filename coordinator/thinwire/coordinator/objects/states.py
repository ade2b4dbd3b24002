"""Checkpoints: the states of a run before its exchanges, as objects."""

from __future__ import annotations

from collections.abc import Collection
from typing import cast

from thinwire.machine.files import read_mapped
from thinwire.methods.checkpoint import state_pieces, unpack_state
from thinwire.methods.values import State

from .objects import Objects, checkpoint


def put_state(objects: Objects, run: str, exchange: int, state: State) -> State:
    """Writes the state before an exchange, durably. The same state; a large one is mapped from that file, so that its
    arrays cost no memory which the system could not take back.

    What an earlier attempt left under this name came of answers that were never noted: it goes. Raises: `OSError`.
    """
    name = checkpoint(run, exchange)
    objects.delete([name])
    objects.put(name, state_pieces(state), durable=True)
    mapped = read_mapped(objects.local(name))
    return state if isinstance(mapped, bytes) else unpack_state(cast(bytes, mapped), verify=False)


def read_state(objects: Objects, run: str, exchange: int) -> State:
    """The state before an exchange, arrays read-only. Raises: `CodecError` (`malformed`: it is damaged), `OSError`."""
    return unpack_state(cast(bytes, read_mapped(objects.local(checkpoint(run, exchange)))))


def keep_states(objects: Objects, run: str, exchanges: Collection[int]) -> None:
    """Deletes all states of a run but those before these exchanges. Raises: `OSError`."""
    kept = {checkpoint(run, exchange) for exchange in exchanges}
    objects.delete(name for name in objects.names(f"checkpoints/{run}") if name not in kept)
