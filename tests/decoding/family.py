"""The processes that decode for a process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


def decoders(parent: int | None = None) -> list[int]:
    """Their numbers; of this process where none is given."""
    found = []
    for pid in _children(os.getpid() if parent is None else parent):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if b"decoding.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def _children(parent: int) -> Iterator[int]:
    for thread in Path(f"/proc/{parent}/task").iterdir():
        with contextlib.suppress(OSError):  # so has a thread
            yield from map(int, (thread / "children").read_text().split())
