"""How much memory a decoder may take."""

from __future__ import annotations

from typing import Final

from thinwire.codecs import Spec

PER_BYTE: Final = 24
TABLES: Final = 1 << 20


def most_memory(spec: Spec, payload: bytes) -> int:
    """Peak bytes of a decode: a multiple of the largest arrays that the spec allows, the payload, and a mebibyte."""
    return PER_BYTE * spec.max_bytes + len(payload) + TABLES
