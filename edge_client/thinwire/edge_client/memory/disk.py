"""A disk that has no room just now: waited for, as a link is."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Final, TypeVar

_PASSING: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_LONGEST_PAUSE_S: Final = 60.0

ResultT = TypeVar("ResultT")


def despite_disk(work: Callable[[], ResultT], *, say: Callable[[str], None], sleep: Callable[[float], None]) -> ResultT:
    """What the work returns, begun again until this client's own disk has room for what it keeps.

    Raises: `OSError` of what does not pass by itself.
    """
    tries = 0
    while True:
        try:
            return work()
        except OSError as error:
            if error.errno not in _PASSING:
                raise
            tries += 1
            if tries in (1, 5) or tries % 20 == 0:
                say(f"this client's disk: {error.strerror}: {error.filename}; trying again")
            sleep(min(_LONGEST_PAUSE_S, 0.5 * 2 ** min(tries - 1, 20)))
