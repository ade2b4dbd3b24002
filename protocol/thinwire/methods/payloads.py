"""How tasks and answers become payloads: what coordinator, client and simulation do alike.

A broadcast part has one meaning for everybody: the arrays that every receiver ends up with. With a lossy chain
these are not the server's exact arrays; with a chain that needs a base, holders of the base get a delta, and everybody
else gets the decoded arrays in full, losslessly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from thinwire.codecs import Array, Arrays, Chain, CodecError, Spec
from thinwire.protocol.fields import MAX_INLINE_FIRST_BYTES

from .arrays import are_finite, own_name
from .chains import Chains
from .contraction import contractive
from .values import Answer

_ANOTHER: Final = 5
"""Bytes of one more part in the short form of a message."""
_NAMED: Final = 35
"""Bytes of a digest and a size where a payload would stand."""

PRIVATE = "private"
"""The name of the part that only one client receives."""


class HasFirstModel(Protocol):
    """What a learner is here: see `thinwire.methods.learner.Learner`."""

    @property
    def spec(self) -> Spec: ...
    def first_arrays(self) -> Arrays: ...


@dataclass(frozen=True, slots=True)
class Part:
    """A published part. `arrays`: as every receiver decodes them. `full`: the payload for all; `delta`: for
    holders of the base it was made against, None where there is none or it would not be smaller.
    """

    spec: Spec
    arrays: Arrays
    full: bytes
    delta: bytes | None = None


def publish(
    arrays: Arrays, chains: Chains, *, spec: Spec | None = None, base: Part | None = None, seed: int = 0
) -> Part:
    """The part to broadcast. `spec`: of the arrays, where they have open dimensions; `base`: the part of the same name
    in the previous exchange, as published.

    Raises: `CodecError` (`bad-spec`; `out-of-range`: and whether the model or the chain is at fault).
    """
    try:
        return _published(arrays, chains, spec or Spec.of(arrays), base, seed)
    except CodecError as error:
        if error.reason != "out-of-range":
            raise
        cause = "The model diverges: lower the run's lr, or that of the server"
        if are_finite(arrays):
            cause = f"The model is finite, and the chain down, {chains.down}, cannot hold it: take one of wider range"
        raise CodecError(error.reason, f"{error.detail}. {cause}") from None


def _published(arrays: Arrays, chains: Chains, spec: Spec, base: Part | None, seed: int) -> Part:
    if not chains.down.needs_reference:
        full = chains.down.encode(arrays, spec, seed=seed)
        decoded = arrays if chains.down.lossless else chains.down.decode(full, spec, seed=seed)
        return Part(spec, decoded, full)
    if base is None or base.spec != spec:
        return Part(spec, arrays, chains.full.encode(arrays, spec, seed=seed))
    delta, decoded = contractive(arrays, spec, chains.down, base=base.arrays, seed=seed)
    full = chains.full.encode(decoded, spec, seed=seed)
    return Part(spec, decoded, full, delta if len(delta) < len(full) else None)


def since(arrays: Arrays, spec: Spec, chains: Chains, rows: Mapping[str, int]) -> bytes:
    """The delta of a part that only grows (`append`) for whoever holds an older one. `rows`: how many the arrays that
    grow had then.
    """
    held = {name: array[: rows[name]] if name in rows else array for name, array in arrays.items()}
    return chains.down.encode(arrays, spec, reference=held)


def first_payload(owner: HasFirstModel, spec: Spec, chains: Chains, seed: int) -> bytes | None:
    """What a part of this spec is in full if it holds arrays of the owner's first model, which then need not
    travel; None where the owner's model has no such arrays.
    """
    own = owner.spec
    if any(own.get(own_name(array)) != item for array, item in spec.items()):
        return None
    first = owner.first_arrays()
    return chains.whole.encode({array: first[own_name(array)] for array in spec}, spec, seed=seed)


def travels_inside(size: int, room: int, *, first: bool) -> bool:
    """Whether a part of so many bytes goes into its message, which has room for so many more. `first`: of the run's
    first exchange, whose larger parts may be the client's own first model, which need not travel.
    """
    return size <= (min(room, MAX_INLINE_FIRST_BYTES) if first else room)


def beside_payloads(parts: int, made: int) -> int:
    """Bytes that the parts of a task take in its message beyond those of one that carries its payload. `made`: as many
    are named by their digest, and made by the client.
    """
    return _ANOTHER * max(0, parts - 1) + _NAMED * made


def receive(
    payload: bytes, spec: Spec, chains: Chains, *, base: Arrays | None = None, seed: int = 0
) -> dict[str, Array]:
    """The arrays of a part: of its delta where `base` is given, else of its full form. Raises: `CodecError`."""
    if base is not None:
        return chains.down.decode(payload, spec, reference=base, seed=seed)
    return chains.whole.decode(payload, spec, seed=seed)


def merge_parts(parts: Mapping[str, Arrays]) -> dict[str, Array]:
    """The reference of an answer: the decoded arrays of all broadcast parts, without the private one."""
    return {name: array for part, arrays in parts.items() if part != PRIVATE for name, array in arrays.items()}


def encode_answer(arrays: Arrays, reply: Spec, chain: Chain, *, reference: Arrays, seed: int) -> bytes:
    """The payload of an answer; empty where the reply has no arrays. Raises: `CodecError`."""
    return chain.encode(arrays, reply, reference=reference, seed=seed) if len(reply) else b""


def decode_answer(payload: bytes, reply: Spec, chain: Chain, *, reference: Arrays, seed: int) -> dict[str, Array]:
    """The inverse of `encode_answer`. Raises: `CodecError`."""
    if not len(reply):
        return {}
    return chain.decode(payload, reply, reference=reference, seed=seed)


def decoded_answer(answer: Answer, reply: Spec, chain: Chain, *, reference: Arrays, seed: int) -> Arrays:
    """What the receiver of this answer decodes."""
    payload = encode_answer(answer.arrays, reply, chain, reference=reference, seed=seed)
    return decode_answer(payload, reply, chain, reference=reference, seed=seed)
