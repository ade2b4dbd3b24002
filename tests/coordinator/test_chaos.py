"""Killed at random instants and started again, with clients that only try again: the bits are those of a quiet run."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from tests.coordinator.numpy_client import NumpyClient, simulate
from tests.coordinator.served import Served, model

NAMES = ["client-00", "client-01", "client-02"]
ROUNDS = 6
KILLS = 6


class Stubborn(httpx.AsyncClient):
    """Repeats a request until the coordinator is there again."""

    async def request(self, *args: Any, **kwargs: Any) -> httpx.Response:
        for _ in range(600):
            try:
                response = await super().request(*args, **kwargs)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            if response.status_code != 503:
                return response
        raise AssertionError("the coordinator stays away")


@pytest.mark.long
def test_kills_change_no_bit(serve: Callable[..., Served]) -> None:
    served = serve()
    settings = {"steps": 2, "delta": True}
    run = served.run(model(5_000), rounds=ROUNDS, cohort=3, settings=settings)["id"]
    instants = random.Random(20)

    async def disturb(done: asyncio.Event) -> int:
        for kills in range(KILLS):
            await asyncio.sleep(instants.uniform(0.05, 0.4))
            if done.is_set():
                return kills
            await asyncio.to_thread(served.kill)
            await asyncio.to_thread(served.start)
        return KILLS

    async def play() -> None:
        async with Stubborn(base_url=served.url, timeout=60) as http:
            clients = [NumpyClient(http, name, through_upload=name.endswith("1")) for name in NAMES]
            invite = served.invite()
            for client in clients:
                await client.enrol(invite)
            done = asyncio.Event()
            disturbing = asyncio.create_task(disturb(done))
            await asyncio.gather(*(client.work(stubborn=True) for client in clients))
            done.set()
            assert await disturbing > 0
            assert all(set(client.verdicts) <= {"accepted", "duplicate"} for client in clients)

    asyncio.run(play())
    expected = simulate(model(5_000), 0, [NAMES] * (2 * ROUNDS), settings, ROUNDS, cohort=3)
    found = load(served.get(f"/v1/runs/{run}/model").content)
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    answers = [one["answers"] for one in served.get(f"/v1/runs/{run}/metrics").json()["exchanges"]]
    assert answers == [3] * (2 * ROUNDS + 1)
