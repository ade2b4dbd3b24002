"""How much room uploads may take: per client, per run, and of the disk.

An upload counts with all the bytes it has announced, from its creation on: what is taken in can be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from thinwire.protocol.reasons import ProblemError

RETRY_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`max_disk_bytes`: of everything in the data folder; None for no limit."""

    max_uploads_per_client: int
    max_upload_bytes_per_client: int
    max_upload_bytes_per_run: int
    max_disk_bytes: int | None = None


class Promised(Protocol):
    """An open upload, as far as room goes."""

    @property
    def client(self) -> str: ...
    @property
    def run(self) -> str: ...
    @property
    def length(self) -> int: ...


class Quotas:
    """`usage`: bytes that the data folder holds beside the uploads; it looks at every file. `used_bytes`: what it said
    when `measure` was last called.
    """

    def __init__(self, limits: Limits, usage: Callable[[], int]) -> None:
        self._limits = limits
        self._usage = usage
        self.used_bytes = 0

    @property
    def limits_disk(self) -> bool:
        """Whether what the data folder holds matters."""
        return self._limits.max_disk_bytes is not None

    def measure(self) -> None:
        """Looks; in a thread."""
        self.used_bytes = self._usage()

    def check_upload(self, uploads: Iterable[Promised], client: str, run: str, length: int) -> None:
        """Whether these uploads leave room for another one. Raises: `too-many-requests`, `quota-exceeded`,
        `storage-full`.
        """
        limits, uploads = self._limits, list(uploads)
        mine = [upload.length for upload in uploads if upload.client == client]
        if len(mine) >= limits.max_uploads_per_client:
            raise ProblemError("too-many-requests", f"{len(mine)} uploads are open", retry_after_s=RETRY_S)
        of_run = sum(upload.length for upload in uploads if upload.run == run)
        for whose, used, most in (
            ("this client", sum(mine), limits.max_upload_bytes_per_client),
            (f"the run {run}", of_run, limits.max_upload_bytes_per_run),
        ):
            if used + length > most:
                detail = f"open uploads of {whose} hold {used} bytes; with {length} more they would exceed {most}"
                raise ProblemError("quota-exceeded", detail, retry_after_s=RETRY_S)
        self.check_disk(sum(upload.length for upload in uploads), length)

    def check_disk(self, promised: int, length: int) -> None:
        """Whether the data folder has room for so much. `promised`: to open uploads. Raises: `storage-full`."""
        most = self._limits.max_disk_bytes
        if most is not None and self.used_bytes + promised + length > most:
            detail = f"the data folder holds {self.used_bytes + promised} bytes; {length} more would exceed {most}"
            raise ProblemError("storage-full", detail, retry_after_s=RETRY_S)
