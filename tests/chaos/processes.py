"""Coordinators and clients as processes that can be killed and started again.

Two ways to start one. `exec` is `python -m`, a fresh interpreter. `fork` forks a server process that has imported the
same modules and done nothing else (multiprocessing's forkserver): the process is as real, runs the same commands from
their arguments on, and is there at once, so that kills fall into its work and not into its imports.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from thinwire.operator.lab import COORDINATOR, EDGE_CLIENT
from thinwire.operator.processes import Children, Running

Way = Literal["exec", "fork"]
PRELOADED = ["thinwire.coordinator.server", "thinwire.edge_client.join"]


class Members(Children):
    """Starts processes in one of the two ways and kills them at the end. Beside its log, a client leaves a file of the
    verdicts it has received.
    """

    def __init__(self, folder: Path, way: Way) -> None:
        super().__init__(folder)
        self._way = way

    def _launch(self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Running:
        if self._way == "exec":
            return super()._launch(__name__, [module, str(_verdicts(log)), *arguments], environment, log)
        os.environ |= environment
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        process = context.Process(target=_forked, args=(module, list(arguments), log), daemon=True)
        process.start()
        return _Forked(process)

    def stop(self) -> None:
        for child in self._children:
            child.process.kill()
        for child in self._children:
            child.process.wait(30)
        self._children.clear()


def _verdicts(log: Path) -> Path:
    return log.with_suffix(".verdicts")


def _become(module: str, verdicts: Path, arguments: list[str]) -> None:
    """Becomes that process."""
    sys.argv = [module, *arguments]
    if module == COORDINATOR:
        from thinwire.coordinator.command import app

        app()
    elif module == EDGE_CLIENT:
        from thinwire.edge_client.cli import main

        _note_verdicts(verdicts)
        main()


def _note_verdicts(path: Path) -> None:
    """A line for each verdict, before the client acts on it: task, memory promoted, SHA-256 of what was sent."""
    import hashlib

    from thinwire.edge_client.memory.runs import Choice, RunMemory

    decide = RunMemory.decide

    def noting(memory: RunMemory, task: str, choice: Choice) -> None:
        outcome = memory.outcome(task)
        sent = "" if outcome is None or outcome.payload is None else hashlib.sha256(outcome.payload).hexdigest()
        with path.open("a") as file:
            file.write(f"{memory.run} {task} {choice} {sent}\n")
        decide(memory, task, choice)

    RunMemory.decide = noting


class _Forked:
    def __init__(self, process: multiprocessing.process.BaseProcess) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired(self._process.name, timeout or 0)
        return code

    def send_signal(self, sig: int) -> None:
        os.kill(self.pid, sig)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self._process.kill()


def _forked(module: str, arguments: list[str], log: Path) -> None:
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    _become(module, _verdicts(log), arguments)


if __name__ == "__main__":
    of, noted, *words = sys.argv[1:]
    _become(of, Path(noted), words)
