"""What operators have changed or tried to change: who, what, when, from where."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import insert, or_, select

from .database import Database
from .tables import audit


@dataclass(frozen=True, slots=True)
class Deed:
    """One request that changes something. `at`: Unix seconds; `who`: a client's name, "" for whoever has the data
    folder's token; `status`: of the answer; `detail`: what the path does not say.
    """

    at: float
    who: str
    address: str
    method: str
    path: str
    status: int
    detail: str | None = None


class Audit:
    """Rows are only added. Every verb raises `storage-failed`, and `add` `storage-full`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, deed: Deed) -> None:
        """One more."""
        row = insert(audit).values(asdict(deed))
        await self._database.transaction(lambda connection: connection.execute(row) and None)

    async def latest(
        self, most: int, before: int | None = None, about: str = "", until: float | None = None
    ) -> list[tuple[int, Deed]]:
        """The newest so many with their numbers, the newest first; `before`: below this number; `until`: before this
        time; `about`: only those whose path, name or address has this text in it.
        """
        query = select(audit).order_by(audit.c.id.desc()).limit(most)
        if before is not None:
            query = query.where(audit.c.id < before)
        if until is not None:
            query = query.where(audit.c.at < until)
        if about:
            columns = (audit.c.path, audit.c.who, audit.c.address, audit.c.detail)
            query = query.where(or_(*(column.contains(about, autoescape=True) for column in columns)))
        columns_of_deed = tuple(Deed.__dataclass_fields__)
        return await self._database.read(
            lambda connection: [
                (row.id, Deed(**{name: row._mapping[name] for name in columns_of_deed}))
                for row in connection.execute(query)
            ]
        )
