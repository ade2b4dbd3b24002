"""Coordinators and clients as processes that can be killed and started again.

Two ways to start one. `exec` is `python -m`, a fresh interpreter. `fork` forks a server process that has imported the
same modules and done nothing else (multiprocessing's forkserver): the process is as real, runs the same commands from
their arguments on, and is there at once, so that kills fall into its work and not into its imports.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

Role = Literal["coordinator", "client"]
Way = Literal["exec", "fork"]
PRELOADED = ["thinwire.coordinator.server", "thinwire.edge_client.join"]


class Running(Protocol):
    """As of `subprocess.Popen`."""

    def poll(self) -> int | None: ...

    def kill(self) -> None: ...

    def wait(self, timeout: float | None = None) -> int: ...


@dataclass(frozen=True, slots=True)
class Member:
    """How to start one process. `log`: all it says; `acknowledged`: the verdicts a client has received."""

    role: Role
    arguments: list[str]
    log: Path
    acknowledged: Path

    def run(self) -> None:
        """Becomes that process."""
        sys.argv = [self.role, *self.arguments]
        if self.role == "coordinator":
            from thinwire.coordinator.cli import main
        else:
            from thinwire.edge_client.cli import main

            _note_verdicts(self.acknowledged)
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

    def poll(self) -> int | None:
        return self._process.exitcode

    def kill(self) -> None:
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise TimeoutError
        return code


def start(member: Member, way: Way) -> Running:
    """The process, which has been started."""
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    if way == "fork":
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        process = context.Process(target=_become, args=(member,), daemon=True)
        process.start()
        return _Forked(process)
    with member.log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.processes", member.role, str(member.acknowledged), *member.arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _become(member: Member) -> None:
    os.setsid()
    output = os.open(member.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    member.run()


if __name__ == "__main__":
    role, acknowledged, *arguments = sys.argv[1:]
    Member("coordinator" if role == "coordinator" else "client", arguments, Path(os.devnull), Path(acknowledged)).run()
