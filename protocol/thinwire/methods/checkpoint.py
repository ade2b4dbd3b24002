"""A state as bytes and back: deterministic, nothing unpickled, no damaged byte overlooked."""

from __future__ import annotations

import hashlib
from typing import Final, cast

import msgpack

from thinwire.codecs import CodecError, Spec, container_pieces, unpack_arrays

from .values import State

_MAGIC: Final = b"thinwire-state-2\n"
_START: Final = len(_MAGIC) + 32
_MAX_HEADER_BYTES: Final = 1 << 24


def pack_state(state: State) -> bytes:
    """The checkpoint: a magic line, the SHA-256 of what follows, the header's length (4 bytes, little-endian), a
    msgpack header, the container.
    """
    return b"".join(state_pieces(state))


def state_pieces(state: State) -> list[bytes | memoryview]:
    """The checkpoint in pieces that follow each other, arrays as views."""
    spec = Spec.of(state.arrays)
    header = msgpack.packb([state.round, state.step, spec.to_plain()])
    body = [len(header).to_bytes(4, "little"), header, *container_pieces(state.arrays, spec)]
    digest = hashlib.sha256()
    for piece in body:
        digest.update(piece)
    return [_MAGIC, digest.digest(), *body]


def unpack_state(data: bytes, *, verify: bool = True) -> State:
    """The inverse of `pack_state`; arrays are read-only views of `data`, bytes or a mapped file. `verify`: whether to
    look for damage; not needed where the data have just been written.

    Raises: `CodecError` (`malformed`, ...).
    """
    start = _START + 4
    length = int.from_bytes(data[_START:start], "little")
    if data[: len(_MAGIC)] != _MAGIC or length > min(_MAX_HEADER_BYTES, len(data) - start):
        raise CodecError("malformed", "not a checkpoint of this version, or a torn one")
    if verify and hashlib.sha256(memoryview(data)[_START:]).digest() != data[len(_MAGIC) : _START]:
        raise CodecError("malformed", "the checkpoint is damaged")
    try:
        header = msgpack.unpackb(data[start : start + length])
    except (msgpack.UnpackException, ValueError):
        raise CodecError("malformed", "the checkpoint's header cannot be read") from None
    match header:
        case [int() as round_, int() as step, spec]:
            arrays = unpack_arrays(cast(bytes, memoryview(data)[start + length :]), Spec.from_plain(spec))
            return State(round_, step, arrays)
    raise CodecError("malformed", "the checkpoint's header cannot be read")
