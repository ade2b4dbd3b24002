"""How the C library keeps memory: what goes back to the system when it is freed, and what stays for the next use; and
how much memory there may be.

The former are settings of glibc; other C libraries are left as they are.
"""

from __future__ import annotations

import contextlib
import ctypes
import resource
from pathlib import Path
from typing import Final

from .quantities import in_bytes

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGE_BYTES: Final = 2 << 20
_LARGEST_BYTES: Final = 1 << 30
_LARGEST_OLD_BYTES: Final = 1 << 25
"""What older releases take at most for the size from which blocks are mapped one by one."""


def give_back_large_memory() -> None:
    """From now on blocks of 2 MiB and more are mapped one by one and unmapped when they are freed.

    glibc raises that threshold to 32 MiB as a process goes on, keeps what was freed below it, and does so once per
    thread: measured, a coordinator then holds one model and more in holes.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_MMAP_THRESHOLD, _LARGE_BYTES)
        # What is freed below the threshold serves the next exchange: fresh pages would be a fifth of its time.
        mallopt(_TRIM_THRESHOLD, 4 * _LARGE_BYTES)
        # One heap for all threads: measured with models of 1.6 MB, two of them hold 4 MB more in holes, no faster.
        mallopt(_ARENA_MAX, 1)


def keep_freed_memory(largest: int = _LARGEST_BYTES) -> None:
    """From now on what is freed stays with the process for the next use, until `give_back_freed_memory`; blocks of more
    than `largest` bytes go back at once.

    glibc gives blocks as large as activations back to the kernel each time, and has them filled with zeros again for
    the next batch: measured with a ConvNet in batches of 32, a fifth of the time of an epoch. The peak is the same
    where such blocks are most of what is held; holes between the arrays of a large model come to several models.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        if not mallopt(_MMAP_THRESHOLD, largest):
            mallopt(_MMAP_THRESHOLD, _LARGEST_OLD_BYTES)
        mallopt(_TRIM_THRESHOLD, _LARGEST_BYTES)


def give_back_freed_memory() -> None:
    """What is free now goes back, also between blocks that are in use. A process that waits holds what it needs."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def limit_memory(size: int) -> None:
    """From now on the system gives this process no more than so many bytes of memory of its own: on Linux all that it
    may write to and shares with nobody, code and mapped files not among it. What asks for more gets an error.

    Raises: `ValueError` where it holds more already.
    """
    held = _own_memory()
    if held is not None and held >= size:
        raise ValueError(f"this process holds {in_bytes(held)} before it has begun")
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _own_memory() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmData:"):
                return int(line.split()[1]) * 1024
    return None
