"""How much room uploads may take: per client, per run, and of the disk.

An upload counts with all the bytes it has announced, from its creation on: what is taken in can be kept.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from thinwire.protocol.reasons import ProblemError

if TYPE_CHECKING:
    from .settings import ServeSettings
    from .uploads import Upload

RETRY_S = 30.0


class Quotas:
    """`used_bytes`: what the data folder held without its uploads when `measure` was last called."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self.used_bytes = 0

    def measure(self) -> None:
        """Looks at every file; in a thread."""
        used = 0
        for folder, _, names in os.walk(self._settings.data_dir):
            if Path(folder) != self._settings.data_dir / "uploads":
                for name in names:
                    with contextlib.suppress(FileNotFoundError):
                        used += (Path(folder) / name).stat().st_size
        self.used_bytes = used

    def check_upload(self, uploads: Iterable[Upload], client: str, run: str, length: int) -> None:
        """Whether these uploads leave room for another one. Raises: `too-many-requests`, `quota-exceeded`,
        `storage-full`.
        """
        settings, uploads = self._settings, list(uploads)
        mine = [upload.length for upload in uploads if upload.client == client]
        if len(mine) >= settings.max_uploads_per_client:
            raise ProblemError("too-many-requests", f"{len(mine)} uploads are open", retry_after_s=RETRY_S)
        of_run = sum(upload.length for upload in uploads if upload.run == run)
        for whose, used, most in (
            ("this client", sum(mine), settings.max_upload_bytes_per_client),
            (f"the run {run}", of_run, settings.max_upload_bytes_per_run),
        ):
            if used + length > most:
                detail = f"open uploads of {whose} hold {used} bytes; with {length} more they would exceed {most}"
                raise ProblemError("quota-exceeded", detail, retry_after_s=RETRY_S)
        self.check_disk(sum(upload.length for upload in uploads), length)

    def check_disk(self, promised: int, length: int) -> None:
        """Whether the data folder has room for so much. `promised`: to open uploads. Raises: `storage-full`."""
        most = self._settings.max_disk_bytes
        if most is not None and self.used_bytes + promised + length > most:
            detail = f"the data folder holds {self.used_bytes + promised} bytes; {length} more would exceed {most}"
            raise ProblemError("storage-full", detail, retry_after_s=RETRY_S)
