"""A database that is open, for tests that are no coroutines: every kind of it in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, Executable, delete, select, text

from tests.records.house import House
from thinwire.coordinator.records.database import Database
from thinwire.coordinator.records.tables import metadata
from thinwire.protocol.reasons import ProblemError

T = TypeVar("T")
BACKENDS: dict[str, Callable[[Path], Database]] = {"sqlite": lambda folder: Database(folder / "db")}


class Records:
    """A database with a loop of its own."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._runner = asyncio.Runner()
        self.run(database.open())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    def both(self, *works: Coroutine[Any, Any, Any]) -> list[Any]:
        """What each returned or the reason it raised; all begun at once."""

        async def work() -> list[Any]:
            told = await asyncio.gather(*works, return_exceptions=True)
            for one in told:
                if isinstance(one, BaseException) and not isinstance(one, ProblemError):
                    raise one
            return [one.reason if isinstance(one, ProblemError) else one for one in told]

        return self.run(work())

    def reason(self, work: Coroutine[Any, Any, Any]) -> str:
        """The reason that it raises."""
        with pytest.raises(ProblemError) as caught:
            self.run(work)
        return caught.value.reason

    def write(self, *statements: Executable) -> None:
        """Rows that other verbs would have written."""

        def work(connection: Connection) -> None:
            for statement in statements:
                connection.execute(statement)

        self.run(self.database.transaction(work))

    def empty(self) -> None:
        """No table has a row."""
        self.write(*(delete(table) for table in metadata.sorted_tables))

    @contextmanager
    def refusing(self, table: str) -> Iterator[None]:
        """Nothing can be stored in this table."""
        self.write(text(f"CREATE TRIGGER refusal BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'refused'); END"))
        try:
            yield
        finally:
            self.write(text("DROP TRIGGER refusal"))

    def dump(self) -> dict[str, list[str]]:
        """All rows of all tables."""

        def work(connection: Connection) -> dict[str, list[str]]:
            return {
                table.name: sorted(map(repr, connection.execute(select(table)))) for table in metadata.sorted_tables
            }

        return self.run(self.database.read(work))

    def close(self) -> None:
        self.run(self.database.close())
        self._runner.close()


@pytest.fixture(scope="module", params=BACKENDS.values(), ids=BACKENDS)
def opened(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Records]:
    """One for all tests of a file, each of which begins by emptying it."""
    records = Records(request.param(tmp_path_factory.mktemp("records")))
    yield records
    records.close()


@pytest.fixture
def records(opened: Records) -> Records:
    """Without a row."""
    opened.empty()
    return opened


@pytest.fixture
def house(records: Records) -> House:
    """Without a row, with the verbs of all that runs are made of."""
    return House(records)
