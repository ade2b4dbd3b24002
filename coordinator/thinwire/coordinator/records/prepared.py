"""Statements that every answer executes: spelt once, and handed to SQLite's driver as they are.

SQLAlchemy takes several times as long to execute one as SQLite does, which nobody would notice, were it not for two
dozen of them that an answer takes.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Dialect, Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

_Change = Callable[[Any], Any]
_GIVEN: Final = object()


@dataclass(frozen=True, slots=True)
class _Spelt:
    """`binds`: name, what changes its value to the driver's, and the value itself where it is the statement's own.
    `columns`: what changes a driver's value of each column, None where it stays; `row`: makes a row of a tuple.
    """

    text: str
    binds: tuple[tuple[str, _Change | None, Any], ...]
    columns: tuple[_Change | None, ...] | None
    row: Callable[[Sequence[Any]], Any]

    def bind(self, values: Mapping[str, Any]) -> list[Any]:
        """As the driver takes them."""
        return [
            own if own is not _GIVEN else values[name] if change is None else change(values[name])
            for name, change, own in self.binds
        ]


class Prepared:
    """A statement with a bindparam for each value, none of them expanding; or what makes it for a dialect of this name.
    On other databases than SQLite it is executed as any other.
    """

    def __init__(self, statement: Executable | Callable[[str], Executable]) -> None:
        self._statement = statement
        self._made: dict[str, Executable] = {}
        self._spelt: dict[tuple[str, ...], _Spelt] = {}

    def all(self, connection: Connection, values: Mapping[str, Any]) -> Sequence[Any]:
        """The rows, as named tuples. Raises: what the driver raises, wrapped or not."""
        if connection.dialect.name != "sqlite":
            return connection.execute(self.of(connection.dialect.name), values).all()
        spelt = self._spell(connection, values)
        rows = _driver(connection).execute(spelt.text, spelt.bind(values)).fetchall()
        if spelt.columns is None:
            return [spelt.row(row) for row in rows]
        return [
            spelt.row(
                [value if change is None else change(value) for value, change in zip(row, spelt.columns, strict=True)]
            )
            for row in rows
        ]

    def first(self, connection: Connection, values: Mapping[str, Any]) -> Any | None:
        """The first row, None where there is none. Raises as `all`."""
        rows = self.all(connection, values)
        return rows[0] if rows else None

    def scalar(self, connection: Connection, values: Mapping[str, Any]) -> Any | None:
        """The first value of the first row, None where there is none. Raises as `all`."""
        row = self.first(connection, values)
        return None if row is None else row[0]

    def change(self, connection: Connection, values: Mapping[str, Any]) -> int:
        """How many rows it has changed; nothing that can be relied on for an insert. Raises as `all`."""
        if connection.dialect.name != "sqlite":
            return connection.execute(self.of(connection.dialect.name), values).rowcount
        spelt = self._spell(connection, values)
        return int(_driver(connection).execute(spelt.text, spelt.bind(values)).rowcount)

    def each(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Once for each of these, which all have the same names. Raises as `all`."""
        if not rows:
            return
        if connection.dialect.name != "sqlite":
            connection.execute(self.of(connection.dialect.name), rows)
            return
        spelt = self._spell(connection, rows[0])
        _driver(connection).executemany(spelt.text, [spelt.bind(values) for values in rows])

    def of(self, dialect: str) -> Any:
        """The statement, for a dialect of this name."""
        made = self._made.get(dialect)
        if made is None:
            made = self._statement if isinstance(self._statement, Executable) else self._statement(dialect)
            self._made[dialect] = made
        return made

    def _spell(self, connection: Connection, values: Mapping[str, Any]) -> _Spelt:
        names = tuple(values)  # an insert sets the columns that it is given
        spelt = self._spelt.get(names)
        if spelt is None:
            spelt = self._spelt[names] = _spell(self.of(connection.dialect.name), connection.dialect, names)
        return spelt


def _driver(connection: Connection) -> Any:
    return connection.connection.driver_connection


def _spell(statement: Any, dialect: Dialect, names: Sequence[str]) -> _Spelt:
    compiled: SQLCompiler = statement.compile(dialect=dialect, column_keys=list(names))
    own, binds = compiled.params, list[tuple[str, _Change | None, Any]]()
    missing = {name for name, bind in compiled.binds.items() if bind.required} - set(names)
    if missing or compiled.post_compile_params:
        raise TypeError(f"cannot be prepared: {missing or 'an expanding value'} in {compiled}")
    for name in compiled.positiontup or ():
        change = _impl(compiled.binds[name].type, dialect).bind_processor(dialect)
        if name in names:
            binds.append((name, change, _GIVEN))
        else:
            binds.append((name, None, own[name] if change is None else change(own[name])))
    columns = list(getattr(statement, "exported_columns", ()))
    changes = tuple(_impl(column.type, dialect).result_processor(dialect, None) for column in columns)
    row: Any = namedtuple("Row", [column.key for column in columns], rename=True)  # type: ignore[misc]
    return _Spelt(str(compiled), tuple(binds), changes if any(changes) else None, row._make)


def _impl(of: TypeEngine[Any], dialect: Dialect) -> TypeEngine[Any]:
    return of.dialect_impl(dialect)
