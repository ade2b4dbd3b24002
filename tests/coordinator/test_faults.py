"""A disk that is full, a database that is locked, a folder that is read-only: a reason, and on when it has passed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from tests.coordinator.faults import NAMES, Patient, enrolled, filled, locked, powerless, read_only, small_disk
from tests.coordinator.numpy_client import simulate
from tests.coordinator.served import Served, free_port, model

SETTINGS = {"steps": 2, "delta": True}
ROUNDS = 3


@pytest.fixture
def on_small_disk(tmp_path: Path) -> Iterator[Served]:
    with small_disk(tmp_path / "disk", "6m") as disk:
        served = Served(disk / "data", free_port())
        served.data_dir.mkdir()
        served.start()
        yield served
        served.kill()
        assert "Traceback" not in served.log, served.log[-5000:]


def through(served: Served, trouble: Callable[[], contextlib.AbstractContextManager[None]], reason: str) -> None:
    """A run that meets this trouble twice: as its first exchange opens, and in the middle of the second round."""
    run = served.run(model(5_000), rounds=ROUNDS, cohort=3, settings=SETTINGS)["id"]

    async def seen(http: Patient) -> None:
        """Until the operator's view and a client have the reason."""
        while reason not in http.met or not str(served.get(f"/v1/runs/{run}").json().get("reason")).startswith(reason):
            await asyncio.sleep(0.05)

    async def play() -> None:
        async with Patient(base_url=served.url) as http:
            clients = await enrolled(http, served)
            await asyncio.gather(*(client.work(2) for client in clients))
            with trouble():
                working = [asyncio.create_task(client.work(stubborn=True)) for client in clients]
                await asyncio.wait_for(seen(http), 60)
            await asyncio.gather(*working)
            assert all(set(client.verdicts) <= {"accepted", "duplicate"} for client in clients)

    asyncio.run(play())
    view = served.get(f"/v1/runs/{run}").json()
    assert (view["outcome"], view.get("reason")) == ("completed", None)
    expected = simulate(model(5_000), 0, [NAMES] * (2 * ROUNDS), SETTINGS, ROUNDS, cohort=3)
    found = load(served.get(f"/v1/runs/{run}/model").content)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    assert reason in served.log


def test_a_full_disk(on_small_disk: Served) -> None:
    through(on_small_disk, lambda: filled(on_small_disk.data_dir.parent), "storage-full")


def test_access_ends_also_where_the_disk_was_full(on_small_disk: Served) -> None:
    served = on_small_disk
    invites = [served.invite(uses=5) for _ in range(2)]
    enrol = f"{served.url}/v1/clients"
    enrolled = httpx.post(enrol, json={"invite": invites[0], "name": "leaver"}).json()
    token = {"authorization": f"Bearer {enrolled['token']}"}
    spare = next(one["invite"] for one in served.get("/v1/invites").json()["invites"] if one["uses_left"] == 5)
    ends = [f"{enrol}/leaver?invite=true", f"{served.url}/v1/invites/{spare}"]

    def end_all() -> list[int]:
        return [httpx.delete(url, headers=served.operator, timeout=30).status_code for url in ends]

    def asked() -> int:
        return httpx.get(f"{served.url}/v1/plans/{'0' * 64}", headers=token).status_code

    with filled(served.data_dir.parent):
        assert end_all() == [507, 507]
        assert asked() == 404  # what is refused has changed nothing
    assert end_all() == [204, 204]
    for _ in range(2):
        assert asked() == 401
        assert {httpx.post(enrol, json={"invite": invite}).status_code for invite in invites} == {403}
        assert served.get("/v1/invites").json() == {"invites": []}
        served.kill()
        served.start()


def test_folders_that_are_read_only(serve: Callable[..., Served]) -> None:
    served = serve()
    served.kill()
    served.prefix = powerless()
    served.start()
    folders = [served.data_dir / name for name in ("payloads", "answers", "uploads", "checkpoints")]
    through(served, lambda: read_only(folders), "storage-failed")


def test_a_database_locked_by_another_process(serve: Callable[..., Served]) -> None:
    served = serve()
    through(served, lambda: locked(served.data_dir / "thinwire.db"), "storage-failed")
