"""Room: open uploads of a client and of a run, the data folder; what is given up makes room again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
from safetensors.numpy import save

from tests.coordinator.numpy_client import NumpyClient
from tests.coordinator.served import Served, model
from tests.coordinator.test_endpoints import problem_of
from tests.coordinator.test_uploads import TUS


def test_a_full_folder_takes_nothing_in_and_goes_on_when_there_is_room(serve: Callable[..., Served]) -> None:
    """The reason is `storage-full`; the run ends when an expired upload has made room."""
    most = 6_100_000
    served = serve(max_disk_bytes=most, upload_expires_s=3)
    wanted = {"cohort": 1, "over-select": 2.0, "min-clients": 2, "rounds": 1, "evaluate": False}
    run = served.run(model(100_000), **wanted)["id"]
    large = httpx.post(f"{served.url}/v1/models", content=save(model(500_000)), headers=served.operator, timeout=60)
    assert problem_of(large).reason == "storage-full"

    async def fill() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            clients = [NumpyClient(http, name, through_upload=True) for name in ("first", "second")]
            for client in clients:
                await client.enrol(served.invite())
            first, second = clients
            tasks = await asyncio.gather(*(client.register() for client in clients))
            data = [client.perform(await client.fetch(task)) for client, task in zip(clients, tasks, strict=True)]
            # An upload is promised all its bytes, and then left alone.
            room = most - _size(served)
            assert len(data[0][0]) < room < 2 * len(data[0][0]), room
            abandoned = await first.create_upload(tasks[0].task, data[0][0])
            assert abandoned.status_code == 201
            refused = await second.create_upload(tasks[1].task, data[1][0])
            problem = problem_of(refused)
            assert problem.reason == "storage-full"
            assert problem.retry
            assert refused.headers["retry-after"] == "30"
            # It expires, and there is room again.
            while (await http.head(abandoned.headers["location"], headers={**first.auth, **TUS})).status_code == 200:
                await asyncio.sleep(0.2)
            payload, examples = data[1]
            while (await second.create_upload(tasks[1].task, payload)).status_code == 507:
                await asyncio.sleep(0.2)
            assert (await second.answer(tasks[1].task, payload, examples)).status_code == 200

    asyncio.run(fill())
    while served.get(f"/v1/runs/{run}").json()["state"] != "finished":
        time.sleep(0.1)
    assert list((served.data_dir / "uploads").iterdir()) == []


def _size(served: Served) -> int:
    files = [path for path in served.data_dir.rglob("*") if path.is_file() and "thinwire.db-" not in path.name]
    return sum(path.stat().st_size for path in files)


def test_more_uploads_than_allowed_are_refused_with_their_reason(serve: Callable[..., Served]) -> None:
    served = serve(max_upload_bytes_per_run=500_000)
    served.run(model(20_000), cohort=2, rounds=1)

    async def create() -> list[Any]:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            clients = [NumpyClient(http, name) for name in ("first", "second")]
            for client in clients:
                await client.enrol(served.invite())
            tasks = await asyncio.gather(*(client.register() for client in clients))
            return [
                await client.create_upload(task.task, client.perform(await client.fetch(task))[0])
                for client, task in zip(clients, tasks, strict=True)
            ]

    first, second = asyncio.run(create())
    assert first.status_code == 201
    assert problem_of(second).reason == "quota-exceeded"
    assert "run" in problem_of(second).detail
