"""How the C library keeps memory: so that what a large array took goes back when it is freed."""

from __future__ import annotations

import contextlib
import ctypes
from typing import Final

LARGE_BYTES: Final = 2 << 20
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8


def give_back_large_memory() -> None:
    """Blocks of `LARGE_BYTES` and more are mapped one by one and unmapped when they are freed.

    glibc raises that threshold to 32 MiB as a process goes on, keeps what was freed below it, and does so once per
    thread: measured, a coordinator then holds one model and more in holes. Other C libraries are left as they are.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, LARGE_BYTES)
        # What is freed below the threshold serves the next exchange: fresh pages would be a fifth of its time.
        mallopt(_TRIM_THRESHOLD, 4 * LARGE_BYTES)
        # One heap for all threads: measured with models of 1.6 MB, two of them hold 4 MB more in holes, no faster.
        mallopt(_ARENA_MAX, 1)


def give_back_freed_memory() -> None:
    """Freed blocks of any size go back, also those between others: what a run took, when it has ended."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
