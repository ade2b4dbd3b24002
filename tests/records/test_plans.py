"""What clients and leaders do again and again looks at no row that it does not need, however long a history is."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any, get_args

import pytest
from sqlalchemy import Engine, event, text

from tests.records.conftest import BACKENDS
from tests.records.house import CLOSING, MODEL, NOW, PART, House
from thinwire.coordinator.records.leases import Lease
from thinwire.coordinator.records.tasks import NewTask
from thinwire.coordinator.runs.exchange import SlotState

GROWING = ("tasks", "answers", "payloads", "uploads", "exchanges", "events", "ledger", "presence", "clients")


@pytest.fixture
def executed() -> Iterator[list[str]]:
    """All that SQLite executes, its values put in; asked for before the database that is to be watched."""
    found: list[str] = []

    def watch(connection: sqlite3.Connection, _record: Any) -> None:
        connection.set_trace_callback(found.append)

    event.listen(Engine, "connect", watch)
    try:
        yield found
    finally:
        event.remove(Engine, "connect", watch)


def scanned(house: House, executed: list[str]) -> list[tuple[str, str]]:
    """The tables of which every row is looked at, and by which statement; as SQLite says."""
    where = house.do(
        house.records.database.read(lambda connection: connection.execute(text("PRAGMA database_list")).one()[2])
    )
    found = []
    with closing(sqlite3.connect(where)) as database:
        for statement in executed:
            if statement.split()[0] in ("SELECT", "UPDATE", "DELETE", "INSERT"):
                plan = [row[3].split() for row in database.execute(f"EXPLAIN QUERY PLAN {statement}")]
                found += [(step[1], statement) for step in plan if step[0] == "SCAN"]
    return [(table, statement) for table, statement in found if table in GROWING]


@pytest.mark.parametrize("opened", [BACKENDS["sqlite"]], ids=["sqlite"], indirect=True)
def test_no_table_that_grows_is_looked_through(executed: list[str], house: House) -> None:
    """As SQLite would find its rows; PostgreSQL has the same indices, and looks through small tables."""
    house.enrol("a", "b", "c")
    lease, other = house.run("run1"), house.run("run2")
    house.exchange(other, 0, "c")
    executed.clear()
    house.exchange(lease)
    house.do(house.exchanges.save_clocks(lease, 0, 1.0, None, NOW))
    new = [NewTask(name, slot, 1, name, [PART.hex(), 1, {}]) for slot, name in enumerate("abc")]
    house.do(house.tasks.offer(lease, 0, new))
    house.do(house.tasks.open_of("a"))
    house.do(house.tasks.get("a", "a"))
    house.do(house.tasks.asked("a", {"run1"}))
    house.do(house.uploads.create("u", "a", "a", 1, b"d" * 32, NOW))
    house.do(house.uploads.delete(["v"]))
    for name in "ab":
        house.arrive(name, name)
    house.do(house.answers.withdraw("b"))
    house.do(house.tasks.decline("b", "b", "", NOW))
    house.do(house.answers.undecided("run1", 0, ["a"]))
    house.do(house.answers.undecided("run1", 0))
    house.do(house.answers.accepted("run1", 0))
    for state in get_args(SlotState):
        house.do(house.tasks.verdict(lease, "a", state, None, None, 1, NOW))
    house.do(house.tasks.of("run1", 0))
    for most in (1, 400):
        names = [f"c{index}" for index in range(most)]
        house.do(house.presence.free("default", None, ["client"], NOW, names, "run1"))
    house.do(house.tasks.contributors("run1", 0))
    house.do(house.exchanges.get("run1", 0))
    house.do(house.exchanges.of("run1"))
    house.do(house.payloads.named(PART))
    house.do(house.payloads.needed(Lease("run1", "", 0)))
    house.do(house.payloads.of("run1", 0))
    house.do(house.events.after("run1", 0, 10))
    house.do(house.events.last_id("run1"))
    house.do(house.runs.find("run1"))
    house.do(house.runs.command("run1", "pause"))
    house.do(house.runs.set_state(lease, "running", None, NOW))
    for drop in (False, True):
        house.do(house.exchanges.renew(lease, 0, 2, None, ["c"], drop=drop, now=NOW))
    house.do(house.exchanges.close(lease, replace(CLOSING, exchange=0), 1, 0, NOW))
    house.do(house.runs.finish(lease, "completed", None, MODEL, NOW))
    assert len(executed) > 50
    assert scanned(house, executed) == []
