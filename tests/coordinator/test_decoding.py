"""Answers decoded in processes of their own: the run ends in the same bits, whichever of them are killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from tests.coordinator.numpy_client import NumpyClient, simulate
from tests.coordinator.served import Served, model
from tests.coordinator.test_restart import answer_one
from tests.decoding.family import decoders

NAMES = ["client-00", "client-01", "client-02"]
TOY = {"method": "toy", "settings": {"steps": 2, "delta": True}}
MEDIAN = {"method": "fedavg", "chains": "plain", "reducer": "median"}


@pytest.mark.parametrize("kind", [TOY, MEDIAN], ids=["delta", "kept answers"])
def test_a_run_whose_decoders_are_killed_ends_in_the_same_bits(
    serve: Callable[..., Served], kind: dict[str, object]
) -> None:
    served = serve(decoding="processes", workers=2)
    run = served.run(model(200), rounds=3, cohort=3, **kind)["id"]
    killed = list[int]()

    async def work() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            invite, clients = served.invite(), [NumpyClient(http, name) for name in NAMES]
            for client in clients:
                await client.enrol(invite)
            waiting = asyncio.create_task(clients[2].register())
            await asyncio.gather(*(answer_one(client) for client in clients[:2]))
            await waiting
            assert served.process is not None
            for pid in decoders(served.process.pid):
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            await asyncio.gather(*(client.work() for client in clients))

    asyncio.run(work())
    assert killed
    found = load(served.get(f"/v1/runs/{run}/model").content)
    settings = kind.get("settings", {})
    rest = {name: value for name, value in kind.items() if name != "settings"}
    exchanges = 6 if kind is TOY else 3
    expected = simulate(model(200), 0, [NAMES] * exchanges, settings, 3, cohort=3, **rest)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    served.stop()
    assert not (served.data_dir / "decoding").exists()
