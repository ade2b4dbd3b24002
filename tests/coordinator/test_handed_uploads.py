"""An upload goes on at another coordinator than the one that took in its beginning."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import httpx
import pytest

from tests.coordinator.numpy_client import NumpyClient
from tests.coordinator.served import Served, model
from tests.coordinator.test_replicas import replicas
from tests.coordinator.test_uploads import OFFSET, TUS, cut_patch, offset_of, performed
from tests.postgres_server import PostgresServer
from thinwire.coordinator.objects.partial import CHUNK
from thinwire.protocol.messages import AnswerMessage

ROWS = 620_000  # of four numbers: two chunks and a bit, as it travels


async def until_stored(one: Served, upload: str, count: int) -> None:
    """Returns when so many chunks of the upload are in the store, and the rows say so."""
    import psycopg

    count_of = "SELECT count(*) FROM chunks WHERE upload = %s"
    async with (
        await psycopg.AsyncConnection.connect(str(one.options["database"]), autocommit=True) as connection,
        asyncio.timeout(60),
    ):
        while await (await connection.execute(count_of, [upload])).fetchone() != (count,):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("kills", [True, pytest.param(False, marks=pytest.mark.long)])
def test_it_goes_on_where_the_other_stopped(postgres: PostgresServer, tmp_path: Path, kills: bool) -> None:
    """Where the first is killed, at most a chunk is sent again; where both live, nothing."""
    with replicas(postgres, tmp_path) as two:
        check(two, kills=kills)


def check(two: list[Served], *, kills: bool) -> None:
    one = two[0]
    run = one.run(model(ROWS), rounds=1, cohort=1, evaluate=False)["id"]

    async def work() -> None:
        async with (
            httpx.AsyncClient(base_url=one.url, timeout=120) as http,
            httpx.AsyncClient(base_url=two[1].url, timeout=120) as there,
        ):
            client, task, data = await performed(one, http)
            assert len(data) > 2 * CHUNK + 12345
            location = (await client.create_upload(task, data)).headers["location"]
            sent = 2 * CHUNK + 12345
            await asyncio.to_thread(cut_patch, one, client, location, 0, data, sent)
            await until_stored(one, location.rpartition("/")[2], 2)
            if kills:
                one.kill()
            at = await offset_of(there, client, location)
            assert at == (2 * CHUNK if kills else sent)
            headers = {**client.auth, **TUS, **OFFSET, "upload-offset": str(at)}
            response = await there.patch(location, content=data[at:], headers=headers)
            assert response.status_code == 204, response.content
            client = NumpyClient(there if kills else http, client.name, token=client.token)
            message = AnswerMessage(examples=5, metrics={}, upload=location.rpartition("/")[2])
            response = await client.send(f"/v1/tasks/{task}/answer", message)
            assert response.status_code == 200, response.content

    asyncio.run(work())
    until, operator = time.monotonic() + 60, two[0].operator
    while httpx.get(f"{two[1].url}/v1/runs/{run}", headers=operator, timeout=60).json().get("outcome") != "completed":
        assert time.monotonic() < until  # whoever led the run may have to be replaced first
        time.sleep(0.1)
    assert not any("defect" in served.log for served in two)
