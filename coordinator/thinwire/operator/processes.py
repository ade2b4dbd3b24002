"""Processes of this machine that live no longer than the command that started them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, Self

TAIL_LINES: Final = 15
GRACE_S: Final = 10.0


class Running(Protocol):
    """A process, as `subprocess.Popen` has it."""

    @property
    def pid(self) -> int: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int) -> None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Child:
    """A process and the file that its output goes to."""

    name: str
    process: Running
    log: Path

    def tail(self) -> str:
        """The last lines of its output."""
        lines = self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join(f"  | {line}" for line in lines)


class ChildFailedError(Exception):
    """A process ended with an error; the text ends with the tail of its log, `brief` with its last line. `code`: None
    for one that hangs.
    """

    def __init__(self, child: Child, what: str, code: int | None = None) -> None:
        self.child = child
        self.code = code
        tail = child.tail()
        self.brief = f"{child.name} {what}: {tail.rpartition('| ')[2]}"
        super().__init__(f"{child.name} {what}; its log {child.log} ends:\n{tail}")


class Children:
    """On leaving the context all processes have ended: asked by SIGTERM first, killed `grace_s` later."""

    def __init__(self, logs: Path, grace_s: float = GRACE_S) -> None:
        self._logs = logs
        self._grace_s = grace_s
        self._children: list[Child] = []

    def __enter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, name: str, module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Child:
        """`python -m module arguments`, in a session of its own: a Ctrl-C of the terminal reaches only us."""
        log = self._logs / f"{name}.log"
        child = Child(name, self._launch(module, arguments, environment, log), log)
        self._children.append(child)
        return child

    def _launch(self, module: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path) -> Running:
        with log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603 (our own interpreter and modules)
                [sys.executable, "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )

    def check(self) -> None:
        """Raises: `ChildFailedError` if one has ended with an error."""
        for child in self._children:
            code = child.process.poll()
            if code:
                raise ChildFailedError(child, f"ended with exit code {code}", code)

    def forget(self, child: Child) -> None:
        """Its end is no error."""
        self._children.remove(child)

    def end(self, child: Child) -> None:
        """Ends one if it still runs; how is no error."""
        if child.process.poll() is None:
            child.process.terminate()
            _end(child.process, self._grace_s)
        self.forget(child)

    def stop(self) -> None:
        """Ends those that still run."""
        running = [child.process for child in reversed(self._children) if child.process.poll() is None]
        for process in running:
            process.terminate()
        for process in running:
            _end(process, self._grace_s)
        self._children.clear()


def finish(child: Child, timeout_s: float) -> None:
    """Waits until it has ended by itself. Raises: `ChildFailedError` if it failed or takes too long."""
    try:
        code = child.process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        raise ChildFailedError(child, f"has not ended after {timeout_s:.0f} s") from None
    if code:
        raise ChildFailedError(child, f"ended with exit code {code}", code)


def _end(process: Running, grace_s: float) -> None:
    # A second Ctrl-C must not leave processes behind.
    with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
        process.wait(grace_s)
        return
    process.kill()
    process.wait()
