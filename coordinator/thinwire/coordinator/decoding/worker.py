"""A process that decodes answers for a coordinator: `python -m thinwire.coordinator.decoding.worker`.

It reads what to decode from its input and says on its output what became of it; the arrays lie in the file that it was
told. It ends when its coordinator does.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Any

from thinwire.codecs import Arrays, Chain, CodecError, Spec
from thinwire.machine.files import write_atomic
from thinwire.methods.model_file import model_bytes, read_arrays

from .coded import Coded, decode
from .messages import receive, send


class References:
    """The reference of the exchange that was decoded last."""

    def __init__(self) -> None:
        self._path = ""
        self._arrays: Arrays = {}

    def at(self, path: str) -> Arrays:
        """The arrays of this file; none for no file. Raises: `OSError`."""
        if path != self._path:
            self._arrays = read_arrays(Path(path)) if path else {}
            self._path = path
        return self._arrays


def answer(wanted: dict[str, Any], references: References) -> dict[str, Any]:
    """What is said of it: nothing where the arrays lie in their file, else why not."""
    try:
        coded = Coded(
            Path(wanted["path"]), wanted["digest"], Spec.from_plain(wanted["reply"]),
            Chain.from_plain(wanted["chain"]), wanted["seed"], references.at(wanted["reference"]), "", 1,
        )  # fmt: skip
        write_atomic(Path(wanted["result"]), model_bytes(decode(coded)), fsync=False)
    except CodecError as error:
        return {"reason": error.reason, "detail": error.detail}
    except OSError as error:
        return {"errno": error.errno, "error": error.strerror or str(error)}
    return {}


def main() -> None:
    """Answers until the coordinator is gone. Signals that are meant for that one are left to it."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    references = References()
    while (wanted := receive(sys.stdin.buffer)) is not None:
        try:
            send(sys.stdout.buffer, answer(wanted, references))
        except BrokenPipeError:
            return


if __name__ == "__main__":
    main()
