"""A stored answer, and what its arrays depend on: nothing else, so that any process makes the same of it."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from thinwire.codecs import Array, Arrays, Chain, Spec
from thinwire.machine.files import read_mapped
from thinwire.methods.payloads import decode_answer


@dataclass(frozen=True, slots=True)
class Coded:
    """`path`: of its payload; `digest`: SHA-256 that the payload has to have, None where it is not looked at again.
    `reply`, `chain`, `seed`, `reference`: what it was written with. `exchange`: names the reference, which all answers
    of an exchange have in common; `answers`: how many it closes at.
    """

    path: Path
    digest: bytes | None
    reply: Spec
    chain: Chain
    seed: int
    reference: Arrays
    exchange: str
    answers: int


Decode = Callable[[Coded], dict[str, Array]]
"""The arrays of an answer; called in a thread. Raises: `CodecError`, `OSError`."""


def decode(coded: Coded) -> dict[str, Array]:
    """In this process. Raises: `CodecError`; `OSError`, also where the stored payload is torn."""
    data = cast(bytes, read_mapped(coded.path))  # a mapped file reads like bytes
    if coded.digest is not None and hashlib.sha256(data).digest() != coded.digest:
        raise OSError(errno.EIO, "the stored answer is torn")
    return decode_answer(data, coded.reply, coded.chain, reference=coded.reference, seed=coded.seed)
