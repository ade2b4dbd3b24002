"""Files that a dying machine has torn or garbled: made again, asked for again, or named; never taken for whole."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from tests.coordinator.faults import NAMES, Patient, enrolled
from tests.coordinator.numpy_client import NumpyClient, simulate
from tests.coordinator.served import Served, model

SETTINGS = {"steps": 2, "delta": True}
ROUNDS = 2
Damage = Callable[[Path], None]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def garble(path: Path) -> None:
    """One bit, near the end: in the arrays where the file has some."""
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    """What ext4 leaves of a file whose data had not been flushed."""
    path.write_bytes(b"")


def longer(*damages: Damage) -> list[Any]:
    return [pytest.param(damage, marks=pytest.mark.long) for damage in damages]


class Interrupted:
    """A run that stands in its second exchange with one answer of three, one of them half uploaded."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.run = served.run(model(20_000), rounds=ROUNDS, cohort=3, settings=SETTINGS)["id"]
        self.clients: list[NumpyClient] = []

    def begin(self) -> None:
        async def work() -> None:
            async with Patient(base_url=self.served.url) as http:
                self.clients = await enrolled(http, self.served)
                await asyncio.gather(*(client.work(1) for client in self.clients))
                tasks = [await client.register() for client in self.clients]
                for client, task in zip(self.clients, tasks, strict=True):
                    assert task is not None
                    data, examples = client.perform(await client.fetch(task))
                    if client is self.clients[0]:
                        await client.answer(task.task, data, examples)
                    if client is self.clients[1]:
                        location = (await client.create_upload(task.task, data)).headers["location"]
                        tus = {**client.auth, "tus-resumable": "1.0.0", "upload-offset": "0"}
                        headers = {**tus, "content-type": "application/offset+octet-stream"}
                        await http.patch(location, content=data[: len(data) // 2], headers=headers)

        asyncio.run(work())
        self.served.kill()

    def finish(self) -> None:
        async def work() -> None:
            async with Patient(base_url=self.served.url) as http:
                for client in self.clients:
                    client.http = http
                await asyncio.gather(*(client.work(stubborn=True) for client in self.clients))

        assert self.view()["state"] == "running", self.view()
        asyncio.run(work())
        self.check_model()

    def check_model(self) -> None:
        expected = simulate(model(20_000), 0, [NAMES] * (2 * ROUNDS), SETTINGS, ROUNDS, cohort=3)
        found = load(self.served.get(f"/v1/runs/{self.run}/model").content)
        for name in expected:
            np.testing.assert_array_equal(found[name], expected[name])

    def view(self) -> dict[str, object]:
        view: dict[str, object] = self.served.get(f"/v1/runs/{self.run}").json()
        return view


@pytest.fixture
def interrupted(serve: Callable[..., Served]) -> Interrupted:
    found = Interrupted(serve())
    found.begin()
    return found


@pytest.mark.parametrize("damage", [garble, *longer(cut, empty)])
def test_what_can_be_made_or_asked_for_again_is(interrupted: Interrupted, damage: Damage) -> None:
    """The open exchange's payloads and plan, its answers and half an upload, all at once."""
    served = interrupted.served
    with contextlib.closing(sqlite3.connect(served.data_dir / "thinwire.db")) as database:
        (parts,) = database.execute("SELECT parts FROM exchanges WHERE exchange = 1").fetchone()
        (plan,) = database.execute("SELECT lower(hex(plan)) FROM exchanges WHERE exchange = 1").fetchone()
    for path in (served.data_dir / "payloads" / interrupted.run).iterdir():
        if path.name in parts or path.name == plan:
            damage(path)
    for folder in ("answers", "uploads"):
        (path,) = (served.data_dir / folder).iterdir()
        damage(path)
    served.start()
    interrupted.finish()
    assert "is made again" in served.log


@pytest.mark.parametrize("damage", [garble, *longer(cut, empty, Path.unlink)])
def test_a_run_without_its_checkpoint_waits_for_it(interrupted: Interrupted, damage: Damage) -> None:
    served = interrupted.served
    path = served.data_dir / "checkpoints" / interrupted.run / "1"
    whole = path.read_bytes()
    damage(path)
    served.start()
    view = interrupted.view()
    assert view["state"] == "paused"
    assert str(view["reason"]).startswith("storage-failed")
    assert f"checkpoints/{interrupted.run}/1" in str(view["reason"])
    refused = served.post(f"/v1/runs/{interrupted.run}/resume", {})
    assert (refused.status_code, refused.json()["reason"]) == (500, "storage-failed")
    path.write_bytes(whole)
    assert served.post(f"/v1/runs/{interrupted.run}/resume", {}).json()["state"] == "running"
    interrupted.finish()


def test_a_damaged_run_can_be_ended(interrupted: Interrupted) -> None:
    served = interrupted.served
    (served.data_dir / "checkpoints" / interrupted.run / "1").unlink()
    served.start()
    assert served.post(f"/v1/runs/{interrupted.run}/stop", {}).json()["outcome"] == "stopped"
    served.kill()
    served.start()
    assert interrupted.view()["outcome"] == "stopped"


def test_the_final_model_is_made_again_or_not_given(interrupted: Interrupted) -> None:
    served = interrupted.served
    served.start()
    interrupted.finish()
    stored = served.data_dir / "payloads" / interrupted.run / str(interrupted.view()["model"])
    served.kill()
    garble(stored)
    served.start()
    interrupted.check_model()
    served.kill()
    garble(stored)
    for path in (served.data_dir / "checkpoints" / interrupted.run).iterdir():
        garble(path)
    served.start()
    refused = served.get(f"/v1/runs/{interrupted.run}/model")
    assert (refused.status_code, refused.json()["reason"]) == (500, "storage-failed")
    assert "is damaged" in refused.json()["detail"]


def test_commits_that_the_machine_lost_are_made_up_for(interrupted: Interrupted) -> None:
    """The write-ahead log ends early: the run stands where it stood before, and goes on from there."""
    served = interrupted.served
    log = served.data_dir / "thinwire.db-wal"
    data = log.read_bytes()
    log.write_bytes(data[: len(data) - 3 * 4096] + bytes(100))
    served.start()
    interrupted.finish()


def test_a_database_that_is_none_is_said_to_be(interrupted: Interrupted) -> None:
    served = interrupted.served
    database = served.data_dir / "thinwire.db"
    database.write_bytes(bytes(range(256)) * 64)
    database.with_name("thinwire.db-wal").unlink()
    with pytest.raises(AssertionError, match=r"cannot start.*storage-failed"):
        served.start()
    assert "file is not a database" in served.log
