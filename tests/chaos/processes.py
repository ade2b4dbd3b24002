"""Coordinators and clients as processes that can be killed and started again.

Two ways to start one. `exec` is `python -m`, a fresh interpreter. `fork` is `tests.forked`: the process is as real and
is there at once, so that kills fall into its work and not into its imports.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from tests import forked
from thinwire.operator.lab import COORDINATOR, EDGE_CLIENT
from thinwire.operator.processes import Children, Running

Way = Literal["exec", "fork"]


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
        with log.open("ab") as output:
            words = ["-m", __name__, module, str(_verdicts(log)), *arguments]
            return forked.start(words, output.fileno(), environment=environment)

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


if __name__ == "__main__":
    of, noted, *words = sys.argv[1:]
    _become(of, Path(noted), words)
