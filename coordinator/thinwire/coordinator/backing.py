"""What a coordinator stands on: where its rows, objects and hints are, as its settings say."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import structlog

from thinwire.machine.workers import Workers
from thinwire.protocol.reasons import ProblemError

from .lead.leadership import TTL_S
from .objects.cache import Cache
from .objects.local import LocalObjects
from .objects.migration import move_payloads
from .objects.objects import KINDS, Objects
from .objects.partial import Partials
from .records.database import Database
from .records.payloads import Payloads
from .runs.identity import fresh_id
from .settings import ServeSettings
from .signals.local import LocalSignals
from .signals.signals import Signals

DATABASE: Final = "thinwire.db"
LOCK_FILE: Final = "coordinator.lock"
_log = structlog.get_logger("thinwire.coordinator")


def objects_at(url: str, data_dir: Path, cache_bytes: int) -> Objects:
    """The objects of a store, with copies in this folder. Raises: `storage-failed`."""
    try:
        from .objects.remote import RemoteObjects, store_at
    except ImportError as error:
        raise ProblemError("storage-failed", f"pip install 'thinwire[objects]' ({error})") from None
    return RemoteObjects(store_at(url), Cache(data_dir / "cache", cache_bytes))


class Backing:
    """`holder`: this process's name. `is_shared`: others may serve the same federation. `open` first. Raises: OSError
    where the data folder cannot be used, `ProblemError` where a URL says nothing that can be opened.
    """

    def __init__(self, settings: ServeSettings) -> None:
        self.holder = fresh_id()
        self.data_dir = settings.data_dir
        self._local, self.partials = LocalObjects(settings.data_dir), Partials(settings.data_dir)
        self._local.open()
        self.objects: Objects = self._local
        if settings.objects:
            self.objects = objects_at(settings.objects, settings.data_dir, settings.cache_bytes)
            self.objects.open()
        self.partials.open()
        self.database = Database(settings.database or settings.data_dir / DATABASE)
        self.is_shared = self.database.is_shared
        self.lease_s = TTL_S if self.is_shared else None
        if self.objects.is_shared and not self.is_shared:
            _log.info("one coordinator at a time may use this store: the database is this folder's own")
        self.signals: Signals = LocalSignals()
        self._follow = None
        if settings.database:
            from .signals.postgres import PostgresSignals

            shared = PostgresSignals(settings.database, self.holder)
            self.signals, self._follow = shared, shared.follow

    async def open(self, workers: Workers) -> None:
        """Raises: `storage-failed`, `storage-full`, OSError."""
        await workers.run(self._check)
        await self.database.open()
        if not self.objects.is_shared:
            needed = await Payloads(self.database).all_needed()
            if left := await workers.run(move_payloads, self._local, needed):
                _log.warning("the database names none of the payloads in the folder; they stay", files=left)

    def _check(self) -> None:
        """Raises: `storage-failed`: a new database would know nothing of the objects, and delete them."""
        if self.database.is_new() and (kinds := [kind for kind in KINDS if self.objects.names(kind)]):
            raise ProblemError(
                "storage-failed",
                f"{self.database.place} is missing, but {' and '.join(kinds)} of it are there: put it back, or restore "
                "a backup into an empty folder",
            )

    async def follow(self) -> None:
        """Hears what other processes have to say, until cancelled."""
        if self._follow is not None:
            await self._follow()
