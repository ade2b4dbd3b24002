"""Which answers are decoded in processes of their own: those of exchanges that would keep a thread for long."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Literal

from thinwire.codecs import Array
from thinwire.codecs.entropy import Entropy

from .coded import Coded, decode
from .processes import Processes

Decoding = Literal["auto", "threads", "processes"]
WORTH_NUMBERS: Final = 10_000_000
"""Of all answers of an exchange together. A thread decodes them in seconds, in which the interpreter does little else;
a process takes 17 MB, and half a second of a processor to begin.
"""


class Decoder:
    """Decodes as it is told; `auto`: in processes where an exchange is worth it and there is a second processor.
    `close` once nothing is decoded any more.
    """

    def __init__(self, how: Decoding, processes: int, folder: Path) -> None:
        self._how = "threads" if how == "auto" and (os.cpu_count() or 1) < 2 else how
        self._processes = Processes(processes, folder)

    def decode(self, coded: Coded) -> dict[str, Array]:
        """The arrays of an answer. Raises: `CodecError`, `OSError`."""
        apart = self._how == "processes" or (self._how == "auto" and is_worth_it(coded))
        return self._processes.decode(coded) if apart else decode(coded)

    def close(self) -> None:
        """Ends the processes."""
        self._processes.close()


def is_worth_it(coded: Coded) -> bool:
    """Whether processes take less time over the answers of this exchange. What no entropy code has written is decoded
    faster than it is handed over.
    """
    codes = any(isinstance(codec, Entropy) for codec in coded.chain.array_codecs)
    return codes and coded.answers * coded.reply.max_elements >= WORTH_NUMBERS
