"""A prepared statement does what the same statement does when SQLAlchemy executes it."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.dialects.sqlite import dialect

from tests.records.conftest import BACKENDS, Records
from thinwire.coordinator import records as package
from thinwire.coordinator.records.database import upsert_in
from thinwire.coordinator.records.prepared import Prepared
from thinwire.coordinator.records.tables import presence

SQLITE = pytest.mark.parametrize("opened", [BACKENDS["sqlite"]], ids=["sqlite"], indirect=True)
ALL = select(presence).order_by(presence.c.client)
ROWS = [
    {"client": "a", "spec": b"\x00\xff", "holds": {"run": 3}, "seen_at": 1.5, "parked": True, "gone": False},
    {"client": "b", "spec": None, "holds": {}, "seen_at": 0.0, "parked": False, "gone": True, "holder": "ö"},
]


def _put(dialect_name: str) -> Any:
    return upsert_in(dialect_name, presence).on_conflict_do_nothing(index_elements=["client"])


def test_rows_are_written_and_read_alike(opened: Records) -> None:
    put, read = Prepared(_put), Prepared(ALL)

    def work(connection: Connection) -> tuple[list[Any], list[Any]]:
        put.change(connection, ROWS[0])
        put.change(connection, ROWS[1])
        put.each(connection, [{**ROWS[1], "client": name, "seen_at": 2.0} for name in "ab"])
        return [*read.all(connection, {})], [*connection.execute(ALL)]

    mine, plain = opened.run(opened.database.transaction(work))
    assert mine == plain
    assert [row._asdict() for row in mine] == [row._asdict() for row in plain]
    assert [{name: getattr(row, name) for name in of} for row, of in zip(mine, ROWS, strict=True)] == ROWS
    assert [(type(row.parked), type(row.spec)) for row in mine] == [(bool, bytes), (bool, type(None))]


def test_what_is_found_and_changed(opened: Records) -> None:
    one = Prepared(select(presence.c.holds).where(presence.c.client == bindparam("of")))
    leave = Prepared(delete(presence).where(presence.c.client == bindparam("of")))
    move = Prepared(
        update(presence)
        .where(presence.c.client == bindparam("of"), presence.c.gone.is_(False))
        .values(holds=bindparam("said"), seen_at=presence.c.seen_at + 1)
        .returning(presence.c.seen_at)
    )

    def work(connection: Connection) -> list[Any]:
        connection.execute(delete(presence))
        for row in ROWS:
            connection.execute(insert(presence), row)
        found = [move.scalar(connection, {"of": name, "said": {"run": 4}}) for name in ("a", "b", "c")]
        held = [one.scalar(connection, {"of": "a"}), one.first(connection, {"of": "c"})]
        return [*found, *held, *(leave.change(connection, {"of": name}) for name in ("a", "c"))]

    assert opened.run(opened.database.transaction(work)) == [2.5, None, None, {"run": 4}, None, 1, 0]


@SQLITE
def test_no_value_is_left_out(opened: Records) -> None:
    one = Prepared(select(presence.c.client).where(presence.c.client == bindparam("of")))
    with pytest.raises(TypeError, match="of"):
        opened.run(opened.database.look(lambda connection: one.all(connection, {"off": "a"})))


def test_every_statement_of_the_records_can_be_prepared() -> None:
    found = 0
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        values = [*vars(import_module(module.name)).values()]
        values += [inner for value in values if isinstance(value, dict) for inner in value.values()]
        for prepared in values:
            if isinstance(prepared, Prepared):
                found += 1
                assert not prepared.of("sqlite").compile(dialect=dialect()).post_compile_params
    assert found > 20
