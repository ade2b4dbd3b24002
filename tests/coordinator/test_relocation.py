"""A federation that moves to PostgreSQL and a store in the middle of a run loses nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from tests.coordinator.numpy_client import NumpyClient, simulate
from tests.coordinator.served import Served, model
from tests.postgres_server import PostgresServer
from tests.serve.house import House
from tests.serve.test_uploads import DATA, begun
from thinwire.coordinator.backing import objects_at
from thinwire.coordinator.objects.objects import chunk
from thinwire.coordinator.records.chunks import Chunks
from thinwire.coordinator.records.database import Database
from thinwire.coordinator.relocation import MOVED, RelocationError, relocate
from thinwire.protocol.reasons import ProblemError

NAMES = ["client-00", "client-01", "client-02"]
SETTINGS = {"steps": 2, "delta": True}


@pytest.mark.long
def test_a_run_goes_on_in_the_same_bits(serve: Callable[..., Served], postgres: PostgresServer, tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="pip install 'thinwire[objects]'")
    served = serve()
    run = served.run(model(200), rounds=2, cohort=3, settings=SETTINGS)["id"]
    url, store = postgres.create(), f"file://{tmp_path / 'store'}"

    async def first() -> list[NumpyClient]:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            clients, invite = [NumpyClient(http, name) for name in NAMES], served.invite()
            for client in clients:
                await client.enrol(invite)
            await asyncio.gather(*(client.work(1) for client in clients))
            message = await clients[0].register()
            assert message is not None
            answer = clients[0].perform(await clients[0].fetch(message))
            (await clients[0].answer(message.task, *answer)).raise_for_status()
            return clients

    clients = asyncio.run(first())
    with pytest.raises(RelocationError, match="serves"):
        relocate(served.data_dir, url, store)
    served.stop()
    rows, objects = relocate(served.data_dir, url, store)
    assert rows > 20
    assert objects >= 4  # the model, two checkpoints, an answer, payloads
    assert (served.data_dir / MOVED).exists()
    with pytest.raises(RelocationError, match=r"no thinwire\.db"):
        relocate(served.data_dir, url, store)
    before = dict(served.options)
    served.options = {**before, "database": url, "objects": store}
    served.start()
    view = served.get(f"/v1/runs/{run}").json()
    assert (view["state"], view["answers"]) == ("running", 1)

    async def second() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            for client in clients:
                client.http = http
            await asyncio.gather(*(client.work() for client in clients))

    asyncio.run(second())
    expected = simulate(model(200), 0, [NAMES] * 4, SETTINGS, 2, cohort=3)
    found = load(served.get(f"/v1/runs/{run}/model").content)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    ledger = served.get(f"/v1/runs/{run}/ledger").json()["rows"]
    assert {row["exchange"] for row in ledger if row.get("exchange") is not None} == {0, 1, 2, 3, 4}
    served.stop()
    (served.data_dir / MOVED).rename(served.data_dir / "thinwire.db")
    with pytest.raises(ProblemError, match="not empty"):
        relocate(served.data_dir, url, store)


def test_what_has_arrived_of_uploads_goes_along(postgres: PostgresServer, tmp_path: Path) -> None:
    pytest.importorskip("obstore", reason="pip install 'thinwire[objects]'")
    url, store = postgres.create(), f"file://{tmp_path / 'store'}"

    async def first() -> str:
        async with House(tmp_path / "data").open() as house:
            upload = await begun(house)
            with house.uploads.reading(upload) as reader:
                reader.append(DATA[:99])
            return upload.id

    async def second(upload: str) -> None:
        database, objects = Database(url), objects_at(store, tmp_path / "new", 0)
        objects.open()
        await database.open()
        try:
            taken = await Chunks(database, "new").take(upload, "ann")
            assert taken is not None
            assert (taken.offset, taken.row.length) == (99, len(DATA))
            assert objects.local(chunk(upload, 0, 0, 99)).read_bytes() == DATA[:99]
        finally:
            await database.close()

    upload = asyncio.run(first())
    relocate(tmp_path / "data", url, store)
    asyncio.run(second(upload))
