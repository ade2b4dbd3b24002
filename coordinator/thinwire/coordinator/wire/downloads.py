"""Files on their way to clients, and what is a file only while it is on its way."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

from thinwire.machine.files import write_atomic

from .meter import Meter


class Downloads:
    """Which connections carry files to which client. `folder`: of copies, which nobody else uses; what a process that
    died has left there goes. Raises: OSError.
    """

    def __init__(self, folder: Path) -> None:
        self._carrying: defaultdict[str, set[Meter]] = defaultdict(set)
        self._folder = folder
        self._readers = Counter[bytes]()
        self._writing = asyncio.Lock()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in folder.iterdir():
            left.unlink()

    @contextlib.contextmanager
    def carried(self, client: str, connection: Meter) -> Iterator[None]:
        """While a file is sent to this client over this connection."""
        self._carrying[client].add(connection)
        try:
            yield
        finally:
            self._carrying[client].discard(connection)
            if not self._carrying[client]:
                del self._carrying[client]

    def cut(self, client: str) -> None:
        """Ends them: its token is worth nothing any more. With another one it goes on where it was."""
        for connection in list(self._carrying.get(client, ())):
            connection.abort()

    async def copy(self, digest: bytes, data: bytes) -> Path:
        """A file with this content, until `release` has been called as often: however many read it, and however
        slowly, it is in no memory. Raises: OSError.
        """
        self._readers[digest] += 1
        path = self._folder / digest.hex()
        try:
            async with self._writing:
                if not path.exists():
                    await asyncio.to_thread(write_atomic, path, data, fsync=False)
        except BaseException:
            self.release(digest)
            raise
        return path

    def release(self, digest: bytes) -> None:
        """A reader of the copy is done with it."""
        self._readers[digest] -= 1
        if not self._readers[digest]:
            del self._readers[digest]
            (self._folder / digest.hex()).unlink(missing_ok=True)
