"""Killed and started again with the same folder, a coordinator goes on to the bit-identical model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from tests.coordinator.numpy_client import NumpyClient, simulate
from tests.coordinator.served import Served, model
from thinwire.protocol.encoding import decode_message
from thinwire.protocol.messages import VerdictMessage

NAMES = ["client-00", "client-01", "client-02"]


async def enrolled(http: httpx.AsyncClient, served: Served) -> list[NumpyClient]:
    invite = served.invite()
    clients = [NumpyClient(http, name) for name in NAMES]
    for client in clients:
        await client.enrol(invite)
    return clients


async def answer_one(client: NumpyClient) -> str:
    """Registers, performs, answers once; the task's id."""
    message = await client.register()
    assert message is not None
    data, examples = client.perform(await client.fetch(message))
    response = await client.answer(message.task, data, examples)
    assert decode_message(VerdictMessage, response.content).verdict == "accepted"
    return message.task


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_an_interrupted_run_ends_in_the_same_bits(serve: Callable[..., Served], end: str) -> None:
    served = serve()
    settings = {"steps": 2, "delta": True}
    run = served.run(model(200), rounds=2, cohort=3, settings=settings)["id"]

    async def first() -> tuple[list[NumpyClient], list[str]]:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            clients = await enrolled(http, served)
            tokens = [client.token for client in clients]
            # The first exchange, and of the second one two answers of three.
            await asyncio.gather(*(client.work(1) for client in clients))
            tasks = [await answer_one(client) for client in clients[:2]]
            last = await clients[2].register()
            assert last is not None
            return clients, [*tasks, last.task, *tokens]

    clients, (task_0, _, task_2, *_) = asyncio.run(first())
    before = served.get(f"/v1/runs/{run}").json()
    getattr(served, end)()
    served.start()
    after = served.get(f"/v1/runs/{run}").json()
    assert after == before
    assert after["answers"] == 2

    async def second() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            for client in clients:
                client.http = http
            repeated = await clients[0].answer(task_0, b"", 1)
            assert decode_message(VerdictMessage, repeated.content).verdict == "duplicate"
            again = await clients[2].register()
            assert again is not None
            assert again.task == task_2
            await asyncio.gather(*(client.work() for client in clients))

    asyncio.run(second())
    expected = simulate(model(200), 0, [NAMES] * 4, settings, 2, cohort=3)
    found = load(served.get(f"/v1/runs/{run}/model").content)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    rows = served.get(f"/v1/runs/{run}/ledger").json()["rows"]
    assert {row["exchange"] for row in rows if row.get("exchange") is not None} == {0, 1, 2, 3, 4}
    left = {path.name for path in (served.data_dir / "answers").iterdir()}
    assert left == set()


def test_contributions_that_are_kept_survive_a_kill(serve: Callable[..., Served]) -> None:
    served = serve()
    settings = {"method": "fedavg", "chains": "plain", "reducer": "median", "max-norm": 20.0}
    run = served.run(model(200), rounds=2, cohort=3, **settings)["id"]

    async def first() -> list[NumpyClient]:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            clients = await enrolled(http, served)
            waiting = asyncio.create_task(clients[2].register())
            await asyncio.gather(*(answer_one(client) for client in clients[:2]))
            assert await waiting is not None
            return clients

    clients = asyncio.run(first())
    served.kill()
    # The files of kept arrays have no name: nothing but the answers themselves is left of them.
    assert len(list((served.data_dir / "answers").iterdir())) == 2
    served.start()
    assert served.get(f"/v1/runs/{run}").json()["answers"] == 2

    async def second() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            for client in clients:
                client.http = http
            await asyncio.gather(*(client.work() for client in clients))

    asyncio.run(second())
    found = load(served.get(f"/v1/runs/{run}/model").content)
    expected = simulate(model(200), 0, [NAMES] * 2, {}, 2, cohort=3, **settings)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])


def test_a_finished_run_stays_finished(serve: Callable[..., Served]) -> None:
    served = serve()
    run = served.run(rounds=1, cohort=3)["id"]

    async def work() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            clients = await enrolled(http, served)
            await asyncio.gather(*(client.work() for client in clients))

    asyncio.run(work())
    before = [served.get(f"/v1/runs/{run}{what}").content for what in ("", "/model", "/metrics")]
    served.stop()
    served.start()
    assert [served.get(f"/v1/runs/{run}{what}").content for what in ("", "/model", "/metrics")] == before


def test_an_answer_that_the_machine_lost_is_asked_for_again(serve: Callable[..., Served]) -> None:
    served = serve()
    run = served.run(rounds=1, cohort=3, evaluate=False)["id"]

    async def first() -> tuple[list[NumpyClient], str]:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            clients = await enrolled(http, served)
            waiting = [asyncio.create_task(client.register()) for client in clients[1:]]
            task = await answer_one(clients[0])
            await asyncio.gather(*waiting)
            return clients, task

    clients, task = asyncio.run(first())
    served.kill()
    path = served.data_dir / "answers" / task
    path.write_bytes(path.read_bytes()[:-1])
    served.start()
    while served.get(f"/v1/runs/{run}").json()["answers"]:
        pass  # it serves before its leader has read what there is

    async def second() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            for client in clients:
                client.http = http
            message = await clients[0].register()
            assert message is not None
            assert message.task == task
            await asyncio.gather(*(client.work() for client in clients))

    asyncio.run(second())
    found = load(served.get(f"/v1/runs/{run}/model").content)
    expected = simulate(model(100), 0, [NAMES], {}, 1, cohort=3)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
