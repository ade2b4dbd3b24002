"""Which arrays of a model a run shares, and what becomes of the others: they stay with each client."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Final

import numpy as np

from thinwire.codecs import Arrays, CodecError

from .arrays import Model, headed, is_buffer, own_name, under
from .settings import LocalTraining

_KEPT: Final = "kept"
_ORDER: Final = "order"


def is_shared(name: str, settings: LocalTraining) -> bool:
    """Of an array, by the name under which it travels. A pattern of `share` is one for the whole name or for some of
    its steps, `lora_B` for `encoder.0.lora_B`; with ! before it, it takes away.
    """
    if is_buffer(name) and settings.buffers == "local":
        return False
    return is_named(own_name(name), settings.share)


def is_named(name: str, text: str) -> bool:
    """Whether these patterns, with commas between them, name an array; all are where there is none to name one."""
    patterns = [pattern.strip() for pattern in text.split(",") if pattern.strip()]
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    return (not wanted or _matches(name, wanted)) and not _matches(name, unwanted)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    steps = name.split(".")
    runs = [".".join(steps[start:stop]) for start in range(len(steps)) for stop in range(start + 1, len(steps) + 1)]
    return any(fnmatchcase(run, pattern) for pattern in patterns for run in runs)


def shared_part(arrays: Arrays, settings: LocalTraining) -> Arrays:
    """Of arrays by the names under which they travel."""
    if not settings.narrows:
        return arrays
    return {name: array for name, array in arrays.items() if is_shared(name, settings)}


def state_of(arrays: Arrays, settings: LocalTraining) -> Arrays:
    """A model's part of a state, from the names under which it travels: `model/NAME` is shared; what is not stands as
    `kept/NAME`, as the run's first model has it, and `order` says where. Raises: `bad-spec` (nothing is shared).
    """
    shared = shared_part(arrays, settings)
    if not any(not is_buffer(name) for name in shared):
        names = ", ".join(own_name(name) for name in list(arrays)[:8])
        raise CodecError("bad-spec", f"share = {settings.share!r} names no parameter of the model: {names}, ...")
    kept = {name: array for name, array in arrays.items() if name not in shared}
    if not kept:
        return headed("model", shared)
    order = np.frombuffer("\n".join(arrays).encode(), np.uint8)
    return {**headed("model", shared), **headed(_KEPT, kept), _ORDER: order}


def carried(state: Arrays) -> Arrays:
    """What never changes of such a state."""
    return {name: array for name, array in state.items() if name == _ORDER or name.startswith(f"{_KEPT}/")}


def whole(model: Model, state: Arrays) -> Model:
    """A shared model with what is not shared beside it, in the order of the first model."""
    kept = under(_KEPT, state)
    if not kept:
        return model
    everything = {**model, **{own_name(name): array for name, array in kept.items()}}
    names = [own_name(name) for name in state[_ORDER].tobytes().decode().split("\n")]
    buffers = [*model.buffers, *(own_name(name) for name in kept if is_buffer(name))]
    return Model({name: everything[name] for name in names}, buffers)
