"""Two coordinators over one database and one store: whichever dies, freezes or is cut off, the run ends in the same
bits, and only one of them leads it at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from tests.coordinator.numpy_client import NumpyClient, simulate
from tests.coordinator.served import Served, free_port, model
from tests.postgres_server import PostgresServer
from thinwire.protocol.reasons import ProblemError

NAMES = ["client-00", "client-01", "client-02"]
SETTINGS = {"steps": 2, "delta": True}
ROUNDS = 3
LEADS = re.compile(r"leads the run run=\w+ epoch=(\d+)")


class Spread(httpx.AsyncBaseTransport):
    """Every request goes to the next coordinator, and to another where that one does not answer."""

    def __init__(self, *urls: str) -> None:
        self._turn = itertools.cycle([httpx.URL(url) for url in urls])
        self._inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        content = await request.aread()
        while True:
            url = next(self._turn)
            there = request.url.copy_with(host=url.host, port=url.port)
            sent = httpx.Request(
                request.method, there, headers=request.headers, content=content, extensions=request.extensions
            )
            with contextlib.suppress(httpx.TransportError):
                response = await self._inner.handle_async_request(sent)
                if response.status_code < 500:
                    return response
            await asyncio.sleep(0.05)

    async def aclose(self) -> None:
        await self._inner.aclose()


@contextlib.contextmanager
def replicas(postgres: PostgresServer, folder: Path, count: int = 2, **more: Any) -> Iterator[list[Served]]:
    """So many coordinators over one database and one store, each with a folder of its own."""
    pytest.importorskip("obstore", reason="pip install 'thinwire[objects]'")
    options = {"database": postgres.create(), "objects": f"file://{folder / 'store'}", **more}
    served = []
    for number in range(count):
        place = folder / f"replica-{number}"
        place.mkdir()
        served.append(Served(place, free_port(), options))
    try:
        for one in served:
            one.start()
        yield served
    finally:
        for one in served:
            if one.process is not None:
                one.process.send_signal(signal.SIGCONT)
                one.kill()


@pytest.fixture(scope="module")
def pair(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Served]]:
    """For the tests of one after the other; the last one kills."""
    with replicas(postgres, tmp_path_factory.mktemp("replicas")) as served:
        yield served


def leader(two: list[Served]) -> int:
    """The one that has taken the lead last."""
    newest = [max(map(int, LEADS.findall(one.log)), default=0) for one in two]
    assert max(newest) > 0
    return newest.index(max(newest))


async def kill_leader(two: list[Served], _: PostgresServer) -> None:
    two[leader(two)].kill()


async def kill_follower(two: list[Served], _: PostgresServer) -> None:
    two[1 - leader(two)].kill()


async def stop_leader(two: list[Served], _: PostgresServer) -> None:
    two[leader(two)].stop()


async def freeze_leader(two: list[Served], _: PostgresServer) -> None:
    """Until another has taken over and gone on; then it wakes up and finds that it leads no more."""
    frozen = two[leader(two)]
    other = two[1 - two.index(frozen)]
    assert frozen.process is not None
    frozen.process.send_signal(signal.SIGSTOP)
    before = other.log
    while not LEADS.search(other.log[len(before) :]):
        await asyncio.sleep(0.1)
    await asyncio.sleep(5)
    frozen.process.send_signal(signal.SIGCONT)


async def cut_database(two: list[Served], postgres: PostgresServer) -> None:
    import psycopg

    for _ in range(5):
        async with await psycopg.AsyncConnection.connect(postgres.url, autocommit=True) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'thinwire%'"
            )
        await asyncio.sleep(0.3)


def check(two: list[Served], postgres: PostgresServer, disturb: Callable, *, through: str | None = None) -> None:
    """`through`: the address of a proxy in front of all; without one, each request goes to the next."""
    run = two[0].run(model(200), rounds=ROUNDS, cohort=3, settings=SETTINGS)["id"]
    invite = two[0].invite()

    async def work() -> None:
        urls = [one.url for one in two] if through is None else [through]
        async with httpx.AsyncClient(transport=Spread(*urls), base_url=urls[0], timeout=60) as http:
            clients = [NumpyClient(http, name) for name in NAMES]
            for client in clients:
                await client.enrol(invite)
            await asyncio.gather(*(client.work(2) for client in clients))
            last = await clients[2].register()
            assert last is not None
            for client in clients[:2]:
                message = await client.register()
                assert message is not None
                (await client.answer(message.task, *client.perform(await client.fetch(message)))).raise_for_status()
            disturbing = asyncio.create_task(disturb(two, postgres))
            await asyncio.gather(*(client.work() for client in clients))
            await disturbing

    asyncio.run(work())
    living = next(one for one in two if one.process is not None)
    operator = two[0].operator
    view = httpx.get(f"{living.url}/v1/runs/{run}", headers=operator, timeout=30).json()
    assert view["outcome"] == "completed"
    found = load(httpx.get(f"{living.url}/v1/runs/{run}/model", headers=operator, timeout=30).content)
    expected = simulate(model(200), 0, [NAMES] * 2 * ROUNDS, SETTINGS, ROUNDS, cohort=3)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    epochs = sorted(int(epoch) for one in two for epoch in LEADS.findall(one.log))
    assert epochs == sorted(set(epochs))
    assert not any("defect" in one.log for one in two), "".join(one.log[-3000:] for one in two)


def test_who_is_let_in_or_shut_out_at_one_is_so_at_the_other(pair: list[Served]) -> None:
    invite = pair[0].invite()

    async def work() -> None:
        async with httpx.AsyncClient(base_url=pair[0].url, timeout=60) as here:
            client = NumpyClient(here, "visitor")
            await client.enrol(invite)
            async with httpx.AsyncClient(base_url=pair[1].url, timeout=60) as client.http:
                # At once: no signal needs to have come.
                assert await client.register(wait_s=0) is None
                waiting = asyncio.create_task(client.register(wait_s=60))
                response = await here.delete("/v1/clients/visitor", headers=pair[0].operator)
                assert response.status_code == 204
                with pytest.raises(ProblemError, match="token-invalid"):
                    await waiting
                with pytest.raises(ProblemError, match="token-invalid"):
                    await client.register(wait_s=0)

    asyncio.run(work())


def test_a_leader_that_is_killed_is_replaced(pair: list[Served], postgres: PostgresServer) -> None:
    check(pair, postgres, kill_leader)


@pytest.mark.long
@pytest.mark.parametrize("disturb", [kill_follower, stop_leader, freeze_leader, cut_database])
def test_whatever_becomes_of_a_replica_the_run_ends_in_the_same_bits(
    postgres: PostgresServer, tmp_path: Path, disturb: Callable
) -> None:
    with replicas(postgres, tmp_path) as two:
        check(two, postgres, disturb)
