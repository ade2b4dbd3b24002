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
BACKENDS: dict[str, Callable[[pytest.FixtureRequest, Path], Database]] = {
    "sqlite": lambda request, folder: Database(folder / "db"),
    "postgres": lambda request, folder: Database(request.getfixturevalue("postgres").create()),
}
_REFUSING: dict[str, list[str]] = {
    "sqlite": ["CREATE TRIGGER refusal BEFORE INSERT ON {} BEGIN SELECT RAISE(ABORT, 'refused'); END"],
    "postgresql": [
        "CREATE FUNCTION refuse() RETURNS trigger AS 'BEGIN RAISE ''refused''; END' LANGUAGE plpgsql",
        "CREATE TRIGGER refusal BEFORE INSERT ON {} EXECUTE FUNCTION refuse()",
    ],
}
_ALWAYS = ("test_leases.py", "test_exchanges.py", "test_tasks.py", "test_chunks.py")
"""Files whose laws are tried over PostgreSQL too each time; all others in the long tests."""
_MANY_STATEMENTS = ("test_whoever_decides_first", "test_an_answered_task_is_decided_once")
_REFUSING_NO_MORE = {"sqlite": "DROP TRIGGER refusal", "postgresql": "DROP FUNCTION refuse CASCADE"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Properties are tried over SQLite; over PostgreSQL, where each statement takes its time, in the long tests."""
    for item in items:
        is_property = isinstance(item, pytest.Function) and getattr(item.obj, "is_hypothesis_test", False)
        is_slow = is_property or item.name.startswith(_MANY_STATEMENTS) or item.path.name not in _ALWAYS
        if "[postgres" in item.nodeid and is_slow:
            item.add_marker(pytest.mark.long)


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
        kind = self.database.kind.engine.dialect.name
        self.write(*(text(statement.format(table)) for statement in _REFUSING[kind]))
        try:
            yield
        finally:
            self.write(text(_REFUSING_NO_MORE[kind]))

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
    records = Records(request.param(request, tmp_path_factory.mktemp("records")))
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
