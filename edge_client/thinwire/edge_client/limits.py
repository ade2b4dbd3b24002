"""What one task may cost this device: seconds, bytes of arrays, memory."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, TypeVar

import torch

ResultT = TypeVar("ResultT")
_NO_MEMORY: Final = ("can't allocate memory", "not enough memory", "out of memory")
"""In the words of PyTorch, whose allocator on a processor raises no error of its own."""


class TaskTooLongError(Exception):
    """A task took more than `--max-task-seconds`."""


class TaskTooLargeError(Exception):
    """A task needs more memory than there is, or than `--memory` leaves to this client."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one task may cost this client. `seconds`: None is unlimited; `size_bytes`: of all its decoded arrays;
    `within`: is told how long the work may take now.
    """

    seconds: float | None = None
    size_bytes: int = 1 << 33
    within: Callable[[float], None] = lambda _: None


@contextmanager
def at_most(limits: Limits) -> Iterator[None]:
    """Raises `TaskTooLongError` in the middle of the work when the time is up."""
    seconds = limits.seconds
    if seconds is None:
        limits.within(math.inf)
        yield
        limits.within(0.0)
        return

    def stop(_: int, __: FrameType | None) -> Any:
        raise TaskTooLongError(f"the task took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    limits.within(seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        limits.within(0.0)


def within_memory(work: Callable[[], ResultT]) -> ResultT:
    """What the work returns. Raises: `TaskTooLargeError` where memory does not suffice, which leaves the rest whole."""
    try:
        return work()
    except (MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
    # Out here the frames of the work, and the arrays in them, are gone.
    raise TaskTooLargeError("out of memory: a smaller batch or model needs less")


def _is_of_memory(error: BaseException) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        words in str(error).lower() for words in _NO_MEMORY
    )
