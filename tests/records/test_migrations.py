"""The data folder of an older version: what it held is what the new tables hold. `make_data_fe71ef9.py` made it."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from tests.records.conftest import Records
from tests.records.house import House
from thinwire.coordinator.records import tables
from thinwire.coordinator.records.database import Database
from thinwire.coordinator.records.leases import Lease
from thinwire.coordinator.records.ledger import Ledger
from thinwire.coordinator.runs.broadcast import digests_of
from thinwire.coordinator.runs.rows import RunRow
from thinwire.coordinator.runs.views import exchange_metrics, run_view
from thinwire.protocol.bytes import Bytes

ARCHIVE = Path(__file__).parent / "data_fe71ef9.tar.gz"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def old(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table before the migration."""
    with contextlib.closing(sqlite3.connect(folder / "data" / "thinwire.db")) as database:
        database.row_factory = sqlite3.Row
        names = ["runs", "exchanges", "tasks", "uploads", "clients", "invites", "links", "ledger"]
        return {name: [dict(row) for row in database.execute(f"SELECT * FROM {name}")] for name in names}  # noqa: S608


@pytest.fixture
def moved(folder: Path, old: dict[str, Any]) -> Iterator[House]:
    """The rows after it."""
    records = Records(Database(folder / "data" / "thinwire.db"))
    yield House(records)
    records.close()


def runs(house: House) -> dict[str, RunRow]:
    return {row.name: row for row in house.do(house.runs.all())}


def test_the_operator_sees_what_he_saw(folder: Path, moved: House) -> None:
    views = json.loads((folder / "views.json").read_text())
    assert {row.name: row.group for row in runs(moved).values()} == {
        "finished": "default", "paused": "ward", "open": "default",
    }  # fmt: skip
    for row in runs(moved).values():
        now_open = moved.do(moved.exchanges.get(row.id, row.exchange))
        view = run_view(row, None, now_open, [])
        assert json.loads(view.model_dump_json(exclude_none=True)) == views[f"/v1/runs/{row.id}"]
        assert not row.damaged
        closed = [one for one in moved.do(moved.exchanges.of(row.id)) if one.closed]
        told = [
            json.loads(exchange_metrics(one, Bytes(), Bytes()).model_dump_json(exclude_none=True)) for one in closed
        ]
        before = views[f"/v1/runs/{row.id}/metrics"]["exchanges"]
        of_the_ledger = {name: 0 for name in told[0] if name.endswith(("_bytes", "_before"))}
        assert told == [{**one, **of_the_ledger} for one in before]


def test_the_open_exchange_is_where_it_was(moved: House, old: dict[str, Any]) -> None:
    rows = {(row["run"], row["exchange"]): row for row in old["exchanges"]}
    assert len(rows) == 7
    for name, answers in (("paused", 0), ("open", 1)):
        run = runs(moved)[name]
        exchange, before = moved.do(moved.exchanges.get(run.id, 1)), rows[run.id, 1]
        assert exchange is not None
        assert not exchange.closed
        assert (exchange.answers, exchange.size, exchange.cohort) == (answers, 3, "same")
        kept = ("offers", "seconds", "left_s", "plan", "round", "step", "kind")
        assert {key: getattr(exchange, key) for key in kept} == {key: before[key] for key in kept}
        assert exchange.parts == json.loads(before["parts"])
        unknown = (exchange.options, exchange.max_payload_bytes, exchange.opened_at, exchange.closed_at)
        assert unknown == (None, 0, None, None)
        assert exchange.clock_at > run.created_at
    assert {one.size for one in moved.do(moved.exchanges.of(runs(moved)["finished"].id))} == {3}


def test_tasks_keep_their_verdicts_and_answers(moved: House, old: dict[str, Any]) -> None:
    of_run = {row.id: row for row in runs(moved).values()}
    for run in of_run.values():
        for exchange in moved.do(moved.exchanges.of(run.id)):
            mine = [row for row in old["tasks"] if (row["run"], row["exchange"]) == (run.id, exchange.exchange)]
            kept = ("id", "slot", "offer", "client", "state", "reason", "detail")
            found = moved.do(moved.tasks.of(run.id, exchange.exchange))
            wanted = sorted(tuple(row[key] for key in kept) for row in mine)
            assert sorted(tuple(getattr(task, key) for key in kept) for task in found) == wanted
            answers = {
                one.task: (one.examples, dict(one.metrics), one.digest)
                for one in moved.do(moved.answers.accepted(run.id, exchange.exchange))
            }
            assert answers == {
                row["id"]: (row["examples"], json.loads(row["metrics"]), row["digest"])
                for row in mine
                if row["state"] == "accepted"
            }
            assert moved.do(moved.answers.undecided(run.id, exchange.exchange)) == []
    count = select(func.count()).select_from(tables.answers)
    accepted = moved.do(moved.records.database.read(lambda connection: connection.execute(count).scalar_one()))
    assert accepted == sum(row["state"] == "accepted" for row in old["tasks"]) == 16


def test_clients_go_on_where_they_were(moved: House, old: dict[str, Any]) -> None:
    run = runs(moved)["open"]
    tasks = {row["client"]: row["id"] for row in old["tasks"] if (row["run"], row["state"]) == (run.id, "open")}
    assert set(tasks) == {"default-01", "default-02"}
    for client in moved.do(moved.clients.all()):
        task = moved.do(moved.tasks.open_of(client.name))
        assert (None if task is None else task.id) == tasks.get(client.name)
    for name in (*tasks, "ward-00"):
        moved.do(moved.presence.arrive(name, None, {}, 0.0))
    paused = runs(moved)["paused"]
    assert tasks.keys().isdisjoint(moved.do(moved.presence.free("default", None, ["client"], 0.0, None, paused.id)))
    (upload,) = moved.do(moved.uploads.all())
    assert (upload.client, upload.task, upload.run) == ("default-01", tasks["default-01"], run.id)
    assert (upload.exchange, upload.kind, upload.task_state) == (1, "again", "open")
    assert {key: getattr(upload, key) for key in old["uploads"][0]} == old["uploads"][0]


def test_payloads_that_are_needed_are_named(folder: Path, moved: House) -> None:
    files = {bytes.fromhex(path.name) for path in (folder / "data" / "payloads").iterdir()}
    for row in runs(moved).values():
        needed, wanted = moved.do(moved.payloads.needed(Lease(row.id, "", 0))), {row.model}
        if not row.finished:
            wanted = set()
            for exchange in moved.do(moved.exchanges.of(row.id)):
                wanted |= {exchange.plan, *digests_of(exchange.parts)}
        assert needed == wanted
        assert needed <= files
        # What is left was made for one client alone, which older rows did not say; it can be made again.
        files_of_one = {one.digest: one.kind for one in moved.do(moved.payloads.of(row.id, 1))}
        assert sorted(files_of_one.values()) == ([] if row.finished else ["part", "part", "plan"])
    named = dict.fromkeys(digest for _, digest in moved.do(moved.payloads.all_needed()))
    assert all((folder / "data" / "payloads" / digest.hex()).stat().st_size < 20 for digest in files - {*named})


def test_the_ledger_keeps_every_byte(moved: House, old: dict[str, Any]) -> None:
    async def rows(run: str) -> list[dict[str, Any]]:
        return [
            row.model_dump() async for block in (await Ledger(moved.records.database).rows(run)).blocks for row in block
        ]

    def key(row: dict[str, Any]) -> str:
        return repr([row[name] for name in ("run", "client", "exchange", "kind")])

    clients = {"default": "default-", "ward": "ward-"}
    for run in runs(moved).values():
        mine = [
            {name: value for name, value in row.items() if name != "id"} for row in old["ledger"]
            if row["run"] == run.id or (row["run"] == "" and row["client"].startswith(clients[run.group]))
        ]  # fmt: skip
        for row in mine:
            row["exchange"] = None if row["exchange"] == -1 else row["exchange"]
        assert sorted(moved.do(rows(run.id)), key=key) == sorted(mine, key=key)


def test_clients_and_links_are_as_they_were(moved: House, old: dict[str, Any]) -> None:
    dump = moved.records.dump()
    for name in ("clients", "invites"):
        added = (0, 0, None, None, None) if name == "clients" else ()
        assert dump[name] == sorted(repr((*_typed(row).values(), *added)) for row in old[name])
    sums: dict[str, list[int]] = {}
    for row in old["ledger"]:
        if row["client"]:
            found = sums.setdefault(row["client"], [0, 0])
            for place, way in enumerate(("uplink", "downlink")):
                found[place] += row[f"{way}_payload_bytes"] + row[f"{way}_framing_bytes"]
    told = {row["client"]: (row["sent_bytes"], row["received_bytes"]) for row in old["links"]}
    assert dump["links"] == sorted(repr((name, *told.get(name, (0, 0)), *both)) for name, both in sums.items())
    for name in ("presence", "leases", "secrets", "events", "sessions", "audit"):
        assert dump[name] == []


def _typed(row: dict[str, Any]) -> dict[str, Any]:
    return {key: bool(value) if key == "seen" else value for key, value in row.items()}
