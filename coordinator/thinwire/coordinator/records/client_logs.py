"""The latest lines that each client has sent of its log."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, select

from .database import Database, upsert
from .tables import client_logs

Line = tuple[float, str]
"""Unix seconds by the client's clock, and what it said."""


class ClientLogs:
    """Every verb raises `storage-failed`, and `add` `storage-full`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, client: str, lines: Sequence[Line], most: int, now: float) -> None:
        """Behind those that are there; only the latest so many are kept."""

        def work(connection: Connection) -> None:
            query = select(client_logs.c.lines).where(client_logs.c.client == client).with_for_update()
            before = connection.execute(query).scalar_one_or_none() or []
            kept = [*before, *map(list, lines)][-most:]
            new = upsert(connection, client_logs).values(client=client, lines=kept, received_at=now)
            set_ = {"lines": new.excluded.lines, "received_at": new.excluded.received_at}
            connection.execute(new.on_conflict_do_update(index_elements=["client"], set_=set_))

        await self._database.transaction(work)

    async def of(self, client: str) -> tuple[list[Line], float | None]:
        """The client's, in order, and when the last of them came, Unix seconds; None where none has."""
        query = select(client_logs.c.lines, client_logs.c.received_at).where(client_logs.c.client == client)
        row = await self._database.read(lambda connection: connection.execute(query).one_or_none())
        return ([], None) if row is None else ([(at, said) for at, said in row.lines], row.received_at)
