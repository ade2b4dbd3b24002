"""Whatever can stop a run is said, with its cure, and is said no more when it is cured."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from tests.coordinator.numpy_client import NumpyClient
from tests.dashboard.house import Site, site
from thinwire.coordinator.records import tables
from thinwire.coordinator.serve.machine import Machine
from thinwire.coordinator.wire.certificates import expires_at
from thinwire.protocol.bytes import Bytes
from thinwire.protocol.messages import AnswerMessage, DeclineMessage, TaskMessage

WITHIN_S = 5.0
NOW = time.time()


async def problems(here: Site) -> dict[str, dict[str, Any]]:
    """By kind; the page says the same."""
    found = (await here.http.get("/v1/problems", headers=here.operator)).json()["problems"]
    assert all(one["said"] and one["cure"] and one["since"] > 0 for one in found)
    return {one["kind"]: one for one in found}


async def appears(here: Site, kind: str) -> dict[str, Any]:
    async with asyncio.timeout(WITHIN_S):
        while kind not in (found := await problems(here)):
            await asyncio.sleep(0.02)
        return found[kind]


async def goes(here: Site, kind: str) -> None:
    async with asyncio.timeout(WITHIN_S):
        while kind in await problems(here):
            await asyncio.sleep(0.02)


async def task_of(client: NumpyClient) -> TaskMessage:
    task = await client.register()
    assert task is not None
    return task


def test_nobody_is_there_and_then_they_are(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            assert await problems(here) == {}
            assert "Nothing is wrong." in await here.page("/problems", **here.operator)
            await here.run(cohort=2)
            found = await appears(here, "waiting")
            assert "waits for 2 clients of group default: 0 are there" in found["said"]
            assert found["command"] == "thinwire client invite --group default"
            anna, bert = await here.client("anna"), await here.client("bert")
            await asyncio.gather(anna.register(), bert.register())
            await goes(here, "waiting")
            await here.http.post("/v1/runs/night/pause", json={"open": "drop"}, headers=here.operator)
            paused = await appears(here, "paused")
            assert (paused["severity"], paused["command"]) == ("notice", "thinwire run resume night")
            await here.log_in()
            assert ">Resume night<" in await here.page("/problems")
            await here.send("/runs/night/resume")
            await goes(here, "paused")

    asyncio.run(work())


def test_declined_out_of_reach_and_paused(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            await here.run(cohort=2, max_offers=1)
            anna, bert = await here.client("anna"), await here.client("bert")
            first, _ = await asyncio.gather(task_of(anna), task_of(bert))
            await anna.send(f"/v1/tasks/{first.task}/decline", DeclineMessage(detail="out of memory"))
            declined = await appears(here, "declined")
            assert declined["client"] == "anna"
            assert "out of memory" in declined["said"]
            out_of_reach = await appears(here, "quorum")
            assert out_of_reach["severity"] == "error"
            assert "2 answers are needed, 0 are there" in out_of_reach["said"] or "is paused" in out_of_reach["said"]

    asyncio.run(work())


def test_silent_and_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path, present_for_s=0.3) as here:
            await here.run(cohort=4, quorum=3, deadline_s=60.0)
            names = ("anna", "bert", "cleo", "dora")
            clients = [await here.client(name) for name in names]
            tasks = await asyncio.gather(*map(task_of, clients))
            for client, task, loss in zip(clients[:2], tasks[:2], (1.0, 1.2), strict=True):
                data, examples = client.perform(await client.fetch(task))
                answer = AnswerMessage(examples=examples, metrics={"loss": loss}, payload=data)
                response = await client.send(f"/v1/tasks/{task.task}/answer", answer)
                assert response.status_code in (200, 202)
            silent = await appears(here, "silent")
            assert silent["client"] in ("cleo", "dora")
            # It comes back, with an answer that is none.
            none = AnswerMessage(examples=1, metrics={}, payload=b"?")
            for client, task in zip(clients[2:], tasks[2:], strict=True):
                await client.send(f"/v1/tasks/{task.task}/answer", none)
            await goes(here, "silent")
            await appears(here, "refused")

    asyncio.run(work())


def test_a_loss_far_from_the_others(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path) as here:
            await here.run(cohort=3)
            clients = [await here.client(name) for name in ("anna", "bert", "cleo")]
            tasks = await asyncio.gather(*map(task_of, clients))
            for client, task, loss in zip(clients, tasks, (1.0, 1.2, 90.0), strict=True):
                data, examples = client.perform(await client.fetch(task))
                answer = AnswerMessage(examples=examples, metrics={"loss": loss}, payload=data)
                await client.send(f"/v1/tasks/{task.task}/answer", answer)
            found = await appears(here, "diverging")
            assert found["client"] == "cleo"
            assert found["command"] == "thinwire client revoke cleo"

    asyncio.run(work())


def test_budget_storage_version_failure_and_disk(tmp_path: Path) -> None:
    async def work() -> None:
        async with site(tmp_path, max_disk_bytes=10) as here:
            disk = await appears(here, "disk")
            assert disk["severity"] == "error"
            assert "--max-disk-bytes" in disk["cure"]
        async with site(tmp_path) as here:
            await goes(here, "disk")
            run = await here.run(max_bytes=1000)
            here.service.ledger.record((run, "anna", 0, "answer"), Bytes(uplink_payload=900))
            await here.service.ledger.flush()
            assert "900 B of 1.00 kB" in (await appears(here, "budget"))["said"]
            database = here.service._backing.database
            for change, kind in (
                ({"settings": {"name": "night", "of": "another version"}}, "version"),
                ({"damaged": True, "state": "paused", "reason": "its checkpoint is gone"}, "storage"),
                (
                    {"state": "finished", "outcome": "failed", "reason": "a defect", "finished_at": time.time()},
                    "failed",
                ),
            ):
                statement = update(tables.runs).values(change)
                await database.transaction(lambda connection, change=statement: connection.execute(change) and None)
                assert (await appears(here, kind))["severity"] == "error"
            await goes(here, "version")

    asyncio.run(work())


def test_the_machine(tmp_path: Path) -> None:
    def faults(free: int = 10**12, newest: float | None = None, **also: Any) -> list[tuple[str, str]]:
        machine = Machine(tmp_path, also.get("certificate"), also.get("most"), lambda: 95, lambda: free)
        return [(one.kind, one.severity) for one in machine.faults(1000.0, newest)]

    assert faults() == []
    assert faults(free=500_000_000) == [("disk", "warning")]
    assert faults(free=5_000_000) == [("disk", "error")]
    assert faults(most=100) == [("disk", "warning")]
    assert faults(most=90) == [("disk", "error")]
    assert faults(newest=1059.0) == []
    assert faults(newest=5000.0) == [("clock", "error")]
    assert faults(certificate=tmp_path / "missing.pem") == [("certificate", "warning")]


def test_a_certificate_that_ends(tmp_path: Path) -> None:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl, which makes a certificate, is not on this machine")
    path = tmp_path / "cert.pem"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(tmp_path / "key.pem"), "-out"]
    subprocess.run([*command, str(path), "-days", "90", "-subj", "/CN=localhost"], check=True, capture_output=True)
    told = subprocess.run([openssl, "x509", "-enddate", "-noout", "-in", str(path)], capture_output=True, text=True)
    until = expires_at(path)
    ends = time.strptime(told.stdout.strip().removeprefix("notAfter="), "%b %d %H:%M:%S %Y GMT")
    assert time.gmtime(until)[:6] == ends[:6]
    machine = Machine(tmp_path, path, None, lambda: 0, lambda: 10**12)
    found = [list(machine.faults(until - days * 86_400, None)) for days in (60, 10, -1)]
    assert [[(one.kind, one.severity) for one in some] for some in found] == [
        [], [("certificate", "warning")], [("certificate", "error")],
    ]  # fmt: skip
    path.write_text("no certificate")
    with pytest.raises(ValueError, match="holds no certificate"):
        expires_at(path)
