"""Names, digests and seeds: the same on every machine, whatever the order of arrival."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

import numpy as np

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a client's name, a group and a run's name look like (`fullmatch`)."""
ID: Final = re.compile(r"[a-z0-9]{6,12}")
"""What the ids of runs, tasks and uploads look like (`fullmatch`)."""
DIGEST_BYTES: Final = 32


def digest_of(data: bytes) -> bytes:
    """SHA-256: the name of a payload or plan."""
    return hashlib.sha256(data).digest()


def _name_words(name: str) -> list[int]:
    return [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")]


def client_seed(run_seed: int, round_: int, step: int, name: str) -> int:
    """The seed of one client for one task, below 2**63."""
    sequence = np.random.SeedSequence([run_seed, round_, step, *_name_words(name)])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def broadcast_seed(run_seed: int, round_: int, step: int) -> int:
    """The seed of what goes to all clients of an exchange, below 2**63."""
    sequence = np.random.SeedSequence([run_seed, round_, step])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def cohort_order(run_seed: int, round_: int, names: Iterable[str]) -> list[str]:
    """The names in the order in which this round asks them."""

    def key(name: str) -> bytes:
        return hashlib.sha256(f"{run_seed}/{round_}/{name}".encode()).digest()

    return sorted(names, key=key)
