"""Checkpoints: the states of a run before its exchanges, as objects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import cast

from thinwire.machine.files import read_mapped
from thinwire.methods.checkpoint import state_pieces, unpack_state
from thinwire.methods.values import State

from .objects import Objects, checkpoint, checkpoint_of


def put_state(objects: Objects, run: str, exchange: int, state: State, epoch: int | None = None) -> State:
    """Writes the state before an exchange, durably. The same state; a large one is mapped from that file, so that its
    arrays cost no memory which the system could not take back.

    What an earlier attempt left under this name came of answers that were never noted: it goes. Raises: `OSError`.
    """
    name = checkpoint(run, exchange, epoch)
    objects.delete([name])
    objects.put(name, state_pieces(state), durable=True)
    mapped = read_mapped(objects.local(name))
    return state if isinstance(mapped, bytes) else unpack_state(cast(bytes, mapped), verify=False)


def read_state(objects: Objects, run: str, exchange: int, epoch: int | None = None) -> State:
    """The state before an exchange, arrays read-only. Raises: `CodecError` (`malformed`: it is damaged), `OSError`."""
    return unpack_state(cast(bytes, read_mapped(objects.local(checkpoint(run, exchange, epoch)))))


def keep_states(
    objects: Objects,
    run: str,
    kept: Mapping[int, int | None],
    epoch: int | None = None,
    best: Iterable[tuple[int, int | None]] = (),
) -> None:
    """Deletes all states of a run but these: exchange -> epoch. `epoch`: of the lease of the leader that asks, which
    may have another by now that writes states too: those of later epochs and exchanges stay. `best`: exchange, epoch of
    older states whose models are the best. Raises: `OSError`.
    """
    needed = {checkpoint(run, exchange, of) for exchange, of in (*kept.items(), *best)}
    oldest = min(kept)

    def is_useless(name: str) -> bool:
        exchange, of = checkpoint_of(name)
        return name not in needed and (epoch is None or exchange < oldest or of < epoch)

    objects.delete([name for name in objects.names(f"checkpoints/{run}") if is_useless(name)])
