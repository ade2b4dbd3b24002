"""Processes that decode answers: threads of one process share one interpreter, these do not."""

from __future__ import annotations

import contextlib
import errno
import queue
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, Final

import structlog

from thinwire.codecs import Array, Arrays, CodecError
from thinwire.machine.files import write_atomic
from thinwire.methods.model_file import model_bytes, read_arrays

from .coded import Coded
from .messages import receive, send

ATTEMPTS: Final = 3
"""Processes that may die over one answer until it is asked for again."""
_REFERENCES: Final = 4
"""Exchanges whose references are kept while nobody reads them: one that is gone is written again."""
_log = structlog.get_logger("thinwire.coordinator")


class Processes:
    """So many processes; what is handed over waits for a free one. They begin with the first answer. `folder`: its own,
    for what goes between; emptied.
    """

    def __init__(self, processes: int, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        self._folder = folder
        self._free: queue.SimpleQueue[_Process | None] = queue.SimpleQueue()
        for _ in range(processes):
            self._free.put(None)
        self._processes = processes
        self._numbers = count()
        self._references = _References(folder)

    def decode(self, coded: Coded) -> dict[str, Array]:
        """As `thinwire.coordinator.decoding.coded.decode`, in another process. Raises: `CodecError`; `OSError`, also
        where every process that tried has died.
        """
        result = self._folder / f"result-{next(self._numbers)}"
        process = self._free.get()
        try:
            with self._references.of(coded) as reference:
                wanted = _wanted(coded, reference, result)
                for attempt in range(1, ATTEMPTS + 1):
                    process = process or _Process()
                    said = process.ask(wanted)
                    if said is not None:
                        return _arrays(said, result)
                    _log.warning("a process that decodes has died", task=coded.path.name, attempt=attempt)
                    process.end()
                    process = None
            raise OSError(errno.EIO, f"{ATTEMPTS} processes have died over this answer: more memory, or fewer workers")
        finally:
            self._free.put(process)
            result.unlink(missing_ok=True)

    def close(self) -> None:
        """Ends the processes, once nothing is decoded any more."""
        for _ in range(self._processes):
            process = self._free.get()
            if process is not None:
                process.end()
        shutil.rmtree(self._folder, ignore_errors=True)


class _References:
    """As files, one for each exchange."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._files: dict[str, Path] = {}
        self._readers: Counter[Path] = Counter()
        self._numbers = count()

    @contextlib.contextmanager
    def of(self, coded: Coded) -> Iterator[str]:
        """The file that holds it, which stays as long; empty where the chain needs none. Raises: `OSError`."""
        if not coded.chain.needs_reference:
            yield ""
            return
        with self._lock:
            path = self._files.get(coded.exchange)
            if path is None:
                path = self._folder / f"reference-{next(self._numbers)}"
                write_atomic(path, model_bytes(coded.reference), fsync=False)
                self._files[coded.exchange] = path
            self._readers[path] += 1
        try:
            yield str(path)
        finally:
            with self._lock:
                self._readers[path] -= 1
                self._drop()

    def _drop(self) -> None:
        """The oldest that nobody reads, where there are too many."""
        for exchange, path in list(self._files.items())[:-_REFERENCES]:
            if not self._readers[path]:
                del self._files[exchange], self._readers[path]
                path.unlink(missing_ok=True)


class _Process:
    def __init__(self) -> None:
        self._popen = subprocess.Popen(
            [sys.executable, "-P", "-m", "thinwire.coordinator.decoding.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )

    def ask(self, wanted: dict[str, Any]) -> dict[str, Any] | None:
        """What it says; None where it has died."""
        assert self._popen.stdin is not None  # noqa: S101
        assert self._popen.stdout is not None  # noqa: S101
        try:
            send(self._popen.stdin, wanted)
        except OSError:
            return None
        return receive(self._popen.stdout)

    def end(self) -> None:
        """Waits for its end."""
        with contextlib.suppress(OSError):
            self._popen.communicate()


def _wanted(coded: Coded, reference: str, result: Path) -> dict[str, Any]:
    return {
        "path": str(coded.path),
        "digest": coded.digest,
        "reply": coded.reply.to_plain(),
        "chain": coded.chain.to_plain(),
        "seed": coded.seed,
        "reference": reference,
        "result": str(result),
    }


def _arrays(said: dict[str, Any], result: Path) -> dict[str, Array]:
    """Raises: `CodecError`, `OSError`."""
    if "reason" in said:
        raise CodecError(said["reason"], said["detail"])
    if "errno" in said:
        raise OSError(said["errno"], said["error"])
    arrays: Arrays = read_arrays(result)
    return dict(arrays)
