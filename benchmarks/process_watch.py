"""What processes use, as their kernel counts it: anonymous memory, CPU, disk; Linux only."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

EVERY_S: Final = 0.01
_TICKS: Final = os.sysconf("SC_CLK_TCK")


def anonymous_bytes(pid: int) -> int:
    """Resident memory that no file stands behind (RssAnon); 0 of a process that has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0


def shared_bytes(pid: int) -> int:
    """Resident memory that no file stands behind, what several processes share divided among them (Pss_Anon); 0 of a
    process that has ended. Dearer to ask for than `anonymous_bytes`.
    """
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                return int(line.split()[1]) * 1024
    return 0


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and of its children that have been waited for."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(int(field) for field in fields[11:15]) / _TICKS
    return 0.0


def descendants(pid: int) -> list[int]:
    """The process and all that come from it."""
    found = [pid]
    for parent in found:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
    return found


def folder_bytes(folder: Path) -> int:
    """The sizes of all files below a folder."""
    found = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            found += path.stat().st_size if path.is_file() else 0
    return found


class Peak:
    """The largest value that `measure` has had while this context was open, looked at again and again."""

    def __init__(self, measure: Callable[[], int], every_s: float = EVERY_S) -> None:
        self._measure = measure
        self._every_s = every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.value = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(self._every_s):
            self.value = max(self.value, self._measure())
