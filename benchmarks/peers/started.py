"""Commands of a peer as processes that end with the benchmark, and free ports for them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.process_watch import descendants

GRACE_S: Final = 5.0


class PeerFailedError(Exception):
    """A command of a peer has ended with an error; the text is the end of its log."""


@dataclass
class Started:
    """Processes of one peer, each with a log. On leaving the context they and all that came from them have ended."""

    folder: Path
    environment: Mapping[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, command: Sequence[str]) -> int:
        """The process id."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=dict(self.environment), cwd=self.folder
            )
        return self.processes[name].pid

    def check(self) -> None:
        """Raises: `PeerFailedError`."""
        for name, process in self.processes.items():
            if process.poll():
                end = (self.folder / f"{name}.log").read_text(errors="replace")[-1500:]
                raise PeerFailedError(f"{name} ended with exit code {process.returncode}:\n{end}")

    def stop(self) -> None:
        everybody = [pid for process in self.processes.values() for pid in descendants(process.pid)]
        end_all(everybody)
        for process in self.processes.values():
            process.wait()


def end_all(pids: Sequence[int]) -> None:
    """Asks these processes to end, and kills those that do not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        until = time.monotonic() + GRACE_S
        while time.monotonic() < until and any(_lives(pid) for pid in pids):
            time.sleep(0.05)


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@contextlib.contextmanager
def started(folder: Path, environment: Mapping[str, str]) -> Iterator[Started]:
    found = Started(folder, environment)
    try:
        yield found
    finally:
        found.stop()


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nobody listens at."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def wait_for_port(port: int, check: Started, patience_s: float = 60.0) -> None:
    """Until somebody listens. Raises: `PeerFailedError`."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        check.check()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise PeerFailedError(f"nobody listens at port {port} after {patience_s:.0f} s")
