"""What of a model never travels, by marks that are compared: clients whose frozen parts differ would train together,
and nobody would know why it goes badly.

A mark is the first 4 bytes of a SHA-256, in hex, over the digests of neighbouring arrays, in at most sixteen groups: a
plan carries them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

_MOST: Final = 16
Digests = Mapping[str, bytes]
"""By array: SHA-256 over name, dtype, shape and bytes."""


def marks_of(digests: Digests) -> tuple[str, ...]:
    """In the order of the names; empty where everything travels."""
    return tuple(
        hashlib.sha256(b"".join(digests[name] for name in group)).hexdigest()[:8] for group in _groups(digests)
    )


def mark_as_number(digests: Digests) -> float:
    """All marks as one number between 1 and 2, the same where they are; one pair in sixteen million is so by chance."""
    whole = hashlib.sha256("".join(marks_of(digests)).encode()).digest()
    return 1 + (int.from_bytes(whole[:3], "big") + 0.5) / (1 << 24)


def first_difference(digests: Digests, marks: Sequence[str]) -> str:
    """Which part of this client's is not the one that was marked, in words; "" where all are."""
    mine, groups = marks_of(digests), _groups(digests)
    if mine == tuple(marks):
        return ""
    if len(mine) != len(marks) or not groups:
        return f"this model has {len(digests)} arrays that do not travel, the run's another number of them"
    group = next(group for group, own, wanted in zip(groups, mine, marks, strict=True) if own != wanted)
    return group[0] if len(group) == 1 else f"one of {group[0]} to {group[-1]}"


def _groups(digests: Digests) -> list[list[str]]:
    names, count = sorted(digests), min(_MOST, len(digests))
    return [names[part * len(names) // count : (part + 1) * len(names) // count] for part in range(count)]
