"""Durable, then visible: what the database refuses has not happened, and can be asked for again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Coroutine, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from tests.coordinator.faults import filled, small_disk
from tests.records.conftest import Records
from thinwire.coordinator.records import sqlite
from thinwire.coordinator.records.clients import Clients
from thinwire.coordinator.records.database import Database
from thinwire.coordinator.records.invites import Invites
from thinwire.coordinator.records.presence import Presence
from thinwire.coordinator.records.secrets import Secrets
from thinwire.coordinator.records.tables import tasks

NOW = 1000.0
CODE, FIRST, SECOND = b"c" * 32, b"1" * 32, b"2" * 32
VERBS: dict[str, Callable[[Database], Coroutine[Any, Any, Any]]] = {
    "issue": lambda db: Invites(db).issue(SECOND, "ward", "client", 1, None),
    "void": lambda db: Invites(db).void(CODE),
    "sweep": lambda db: Invites(db).sweep(NOW + 9),
    "enrol": lambda db: Clients(db).enrol("bob", CODE, SECOND, NOW, 9),
    "enrol again": lambda db: Clients(db).enrol("ann", CODE, SECOND, NOW, 9),
    "rotate": lambda db: Clients(db).rotate("ann", FIRST, SECOND),
    "revoke": lambda db: Clients(db).revoke("ann", NOW, invite=False),
    "revoke with the invite": lambda db: Clients(db).revoke("ann", NOW, invite=True),
    "delete a client": lambda db: Clients(db).delete("ann", NOW),
    "put": lambda db: Secrets(db).put("operator", SECOND),
    "arrive": lambda db: Presence(db).arrive("ann", None, {"run": 2}, NOW),
    "touch": lambda db: Presence(db).touch(["ann", "bob"], NOW),
    "leave": lambda db: Presence(db).leave({"ann": True, "bob": False}, NOW),
    "reset": lambda db: Presence(db).reset(),
}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another writes and does not come to an end."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def full(path: Path) -> Iterator[None]:
    with filled(path.parent):
        yield


@pytest.fixture(params=["locked", "full"])
def failing(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Records, Callable[[], Any], str]]:
    """Records, what makes them fail, and the reason."""
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 1)

    if request.param == "full":
        with small_disk(tmp_path / "disk", "2m") as disk:
            records = Records(Database(disk / "db"))
            yield records, lambda: full(disk / "db"), "storage-full"
            records.close()
        return
    records = Records(Database(tmp_path / "db"))
    yield records, lambda: locked(tmp_path / "db"), "storage-failed"
    records.close()


@pytest.mark.parametrize("verb", VERBS)
def test_a_change_that_cannot_be_stored_has_not_happened_and_can_be_repeated(
    failing: tuple[Records, Callable[[], Any], str], verb: str
) -> None:
    records, fails, reason = failing
    work = VERBS[verb]

    def stand() -> None:
        records.empty()
        records.run(Invites(records.database).issue(CODE, "ward", "client", 5, NOW + 5))
        records.run(Clients(records.database).enrol("ann", CODE, FIRST, NOW, 9))
        records.run(Presence(records.database).arrive("ann", FIRST[:8], {"run": 1}, NOW - 1))
        row = {"id": "t", "run": "run", "exchange": 0, "slot": 0, "offer": 1, "client": "ann", "state": "open"}
        records.write(insert(tasks).values(row))

    stand()
    wanted = records.run(work(records.database))
    after = records.dump()
    stand()
    before = records.dump()
    with fails():
        for _ in range(2):
            assert records.reason(work(records.database)) == reason
            assert records.dump() == before
    assert records.run(work(records.database)) == wanted
    assert records.dump() == after
    assert before != after
