"""What of the machine itself keeps runs from going on, or soon will: disk, clock, certificate."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from thinwire.coordinator.wire.certificates import expires_at
from thinwire.machine.quantities import in_bytes
from thinwire.protocol.messages import ProblemKind, Severity

LITTLE_BYTES: Final = 1_000_000_000
"""Of free disk: a warning below it, an error below a tenth of it."""
NEARLY: Final = 0.9
"""Of the bytes that the data folder may hold."""
AHEAD_S: Final = 60.0
"""The newest event may lie so far ahead of the clock."""
DAYS_BEFORE: Final = 21
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Fault:
    """`said`: what is wrong; `cure`: what to do."""

    kind: ProblemKind
    severity: Severity
    said: str
    cure: str


class Machine:
    """`held`: bytes of the data folder; `free`: bytes of its disk. Everything raises OSError."""

    def __init__(
        self,
        data_dir: Path,
        certificate: Path | None,
        max_disk_bytes: int | None,
        held: Callable[[], int],
        free: Callable[[], int] | None = None,
    ) -> None:
        self._certificate = certificate
        self._max_disk_bytes = max_disk_bytes
        self._held = held
        self._free = free or (lambda: shutil.disk_usage(data_dir).free)

    def faults(self, now: float, newest: float | None) -> Iterator[Fault]:
        """In a thread. `now`: Unix seconds; `newest`: when the newest event was."""
        free = self._free()
        if free < LITTLE_BYTES:
            severity: Severity = "error" if free < LITTLE_BYTES / 10 else "warning"
            yield Fault(
                "disk", severity, f"{in_bytes(free)} are free on the disk of the data folder",
                "free some: what cannot be stored stops its run until there is room",
            )  # fmt: skip
        if self._max_disk_bytes is not None and (held := self._held()) > NEARLY * self._max_disk_bytes:
            yield Fault(
                "disk", "error" if held > self._max_disk_bytes else "warning",
                f"the data folder holds {in_bytes(held)} of {in_bytes(self._max_disk_bytes)}",
                "serve with a larger --max-disk-bytes, or stop runs that are not needed",
            )  # fmt: skip
        if newest is not None and newest > now + AHEAD_S:
            yield Fault(
                "clock", "error", f"this machine's clock is {round(newest - now)} s behind what it has already noted",
                "set the clock, by NTP for example: invites, certificates and silence are judged by it",
            )  # fmt: skip
        if self._certificate is not None:
            yield from self._certificate_faults(self._certificate, now)

    def _certificate_faults(self, path: Path, now: float) -> Iterator[Fault]:
        cure = "renew it, and start the coordinator again"
        try:
            left_s = expires_at(path) - now
        except (OSError, ValueError) as error:
            yield Fault("certificate", "warning", f"the certificate cannot be read: {error}", cure)
            return
        if left_s < 0:
            yield Fault("certificate", "error", "the certificate has expired: clients refuse to connect", cure)
        elif left_s < DAYS_BEFORE * _DAY_S:
            yield Fault("certificate", "warning", f"the certificate expires in {left_s / _DAY_S:.0f} days", cure)
