"""A log in which strangers cannot write as much as they like: what is said again and again is said once a minute."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

EVERY_S: Final = 60.0


class SparingLogger(logging.Logger):
    """Hands on to the logger of the same name: of each text one line in `EVERY_S` seconds, and with the next one how
    many there were in between. Errors are never left out.
    """

    def __init__(self, name: str, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(name)
        self.parent = logging.getLogger(name)
        self._clock = clock
        # The server below has a handful of texts, in which no stranger's words occur.
        self._said: dict[str, tuple[float, int]] = {}

    def handle(self, record: logging.LogRecord) -> None:
        if record.levelno < logging.ERROR:
            text, now = str(record.msg), self._clock()
            until, kept_back = self._said.get(text, (now, 0))
            if now < until:
                self._said[text] = until, kept_back + 1
                return
            self._said[text] = now + EVERY_S, 0
            if kept_back:
                record.msg = f"{text} ({kept_back} more since the last line)"
        super().handle(record)
