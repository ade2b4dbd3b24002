"""Files on their way to clients."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator

from .meter import Meter


class Downloads:
    """Which connections carry files to which client."""

    def __init__(self) -> None:
        self._carrying: defaultdict[str, set[Meter]] = defaultdict(set)

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
