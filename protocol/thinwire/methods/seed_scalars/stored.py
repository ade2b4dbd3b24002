"""The final model as it is stored: a seed and a history of scalars; and back, from the start that the user has."""

from __future__ import annotations

import hashlib
from typing import Final

import msgpack
import numpy as np

from thinwire.codecs import Array, Arrays, CodecError, Spec
from thinwire.methods.arrays import Model
from thinwire.methods.model_file import model_bytes
from thinwire.methods.seed_scalars.directions import flat, unflat, walk
from thinwire.protocol.encoding import spec_digest

HEADER: Final = "seed-scalars.header"
STEPS: Final = "seed-scalars.steps"


def digest_of_start(model: Arrays) -> bytes:
    """16 bytes by which a start is known: of its model file."""
    return hashlib.sha256(model_bytes(model)).digest()[:16]


def pack_history(history: Array, seed: int, start: bytes, spec: bytes) -> Model:
    """`STEPS`, the history, and `HEADER` (msgpack: seed, digests of the start and of its spec), uint8."""
    header = msgpack.packb({"seed": seed, "start": start, "spec": spec})
    return Model({HEADER: np.frombuffer(header, np.uint8), STEPS: history})


def is_history(arrays: Arrays) -> bool:
    """Whether these are the arrays of such a file."""
    return HEADER in arrays and STEPS in arrays


def expand_history(arrays: Arrays, start: Arrays) -> Model:
    """The model that the history makes of its start, float32, in the start's order.

    Raises: `malformed`; `does-not-fit`: another start than that of the run.
    """
    try:
        header = msgpack.unpackb(arrays[HEADER].tobytes())
        seed, known, spec = int(header["seed"]), bytes(header["start"]), bytes(header["spec"])
        history = arrays[STEPS]
        if history.dtype != np.float32 or history.ndim not in (1, 3) or not np.isfinite(history).all():
            raise ValueError(history.dtype)
    except (AttributeError, KeyError, TypeError, ValueError, msgpack.UnpackException):
        raise CodecError("malformed", "not the arrays of a model stored as seeds and scalars") from None
    if spec_digest(Spec.of(start)) != spec:
        raise CodecError("does-not-fit", "the start has other arrays than the run's first model")
    if digest_of_start(start) != known:
        raise CodecError("does-not-fit", "the start has the arrays of the run's first model, but not its numbers")
    weights = flat(start)
    walk(weights, seed, history)
    return unflat(weights, start)
