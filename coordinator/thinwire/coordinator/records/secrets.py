"""Secrets that are no client's, by their hashes: the operator's token."""

from __future__ import annotations

from sqlalchemy import Connection, select

from .database import Database, upsert
from .tables import secrets


class Secrets:
    """Every verb raises `storage-failed`, and `put` raises `storage-full`; then nothing has changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, name: str) -> bytes | None:
        """The hash of this secret, if it has been put."""
        query = select(secrets.c.hash).where(secrets.c.name == name)
        return await self._database.read(lambda connection: connection.scalar(query))

    async def put(self, name: str, secret_hash: bytes) -> None:
        """The hash in the place of the one before; it survives the death of the machine."""

        def work(connection: Connection) -> None:
            new = upsert(connection, secrets).values(name=name, hash=secret_hash)
            connection.execute(new.on_conflict_do_update(index_elements=["name"], set_={"hash": new.excluded.hash}))

        await self._database.transaction(work, durable=True)
