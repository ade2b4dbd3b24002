"""All rows of one database in another, of whatever kind."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Integer, func, insert, select, text

from thinwire.protocol.reasons import ProblemError

from .database import Database
from .tables import metadata

BLOCK: Final = 1000
"""Rows in one statement."""
_COUNT_ON: Final = "SELECT setval('{0}_id_seq', (SELECT coalesce(max(id), 0) + 1 FROM {0}), false)"
_NUMBERED: Final = [
    table.name for table in metadata.sorted_tables if "id" in table.c and isinstance(table.c.id.type, Integer)
]


async def copy_rows(source: Database, target: Database) -> int:
    """How many. In one transaction; both are open. Raises: `storage-failed` (also where the target holds rows),
    `storage-full`.
    """

    def read(connection: Connection) -> dict[str, list[dict[str, Any]]]:
        return {
            table.name: [dict(row._mapping) for row in connection.execute(select(table))]
            for table in metadata.sorted_tables
        }

    rows = await source.read(read)

    def write(connection: Connection) -> int:
        for table in metadata.sorted_tables:
            if connection.execute(select(func.count()).select_from(table)).scalar_one():
                raise ProblemError("storage-failed", f"the database {target.place} is not empty: name another")
        for table in metadata.sorted_tables:
            for begin in range(0, len(rows[table.name]), BLOCK):
                connection.execute(insert(table), rows[table.name][begin : begin + BLOCK])
        if connection.dialect.name == "postgresql":
            for name in _NUMBERED:
                connection.execute(text(_COUNT_ON.format(name)))
        return sum(map(len, rows.values()))

    return await target.transaction(write, durable=True)
