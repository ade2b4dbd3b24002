"""Whole runs over real HTTP, with clients that speak the real protocol and train nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from tests.coordinator.numpy_client import NumpyClient, simulate
from tests.coordinator.served import Served, model
from thinwire.codecs import Spec
from thinwire.methods.arrays import same_bits
from thinwire.methods.model_file import read_model
from thinwire.protocol.encoding import spec_digest


async def join(http: httpx.AsyncClient, served: Served, count: int, **settings: Any) -> list[NumpyClient]:
    invite = served.invite()
    clients = [
        NumpyClient(http, f"client-{index:02}", spec=spec_digest(Spec.of(model(100))), **settings)
        for index in range(count)
    ]
    for client in clients:
        await client.enrol(invite)
    return clients


async def whole_run(served: Served, count: int = 2, **settings: Any) -> list[NumpyClient]:
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
        clients = await join(http, served, count, **settings)
        await asyncio.gather(*(client.work() for client in clients))
    return clients


def final_model(served: Served, run: str) -> dict[str, Any]:
    response = served.get(f"/v1/runs/{run}/model")
    assert response.status_code == 200
    return load(response.content)


@pytest.mark.parametrize(
    ("size", "method"),
    [
        (100, {}),
        (100, {"steps": 2}),
        (20_000, {"delta": True}),
        (100, {"steps": 2, "private": True, "delta": True}),
    ],
)
def test_a_run_ends_in_the_state_of_the_plain_loop(served: Served, size: int, method: dict[str, Any]) -> None:
    run = served.run(model(size), rounds=3, settings=method)
    clients = asyncio.run(_plain(served))
    view = served.get(f"/v1/runs/{run['id']}").json()
    assert (view["state"], view["outcome"]) == ("finished", "completed")
    names = sorted(client.name for client in clients)
    expected = simulate(model(size), 0, [names] * (3 * method.get("steps", 1)), method, 3)
    found = final_model(served, run["id"])
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name])
    metrics = served.get(f"/v1/runs/{run['id']}/metrics").json()["exchanges"]
    assert [one["kind"] for one in metrics][-1] == "evaluate"
    assert all(one["answers"] == 2 and one["metrics"]["accuracy"] == 0.5 for one in metrics)
    assert all(one["metrics"]["examples"] == 20 for one in metrics)
    assert all(verdict == "accepted" for client in clients for verdict in client.verdicts)
    if method.get("delta"):
        assert "delta" in clients[0].forms
    assert "held" in clients[0].forms


async def _plain(served: Served) -> list[NumpyClient]:
    async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
        invite = served.invite()
        clients = [NumpyClient(http, f"client-{index:02}") for index in range(2)]
        for client in clients:
            await client.enrol(invite)
        await asyncio.gather(*(client.work() for client in clients))
    return clients


def test_the_model_of_a_run_that_has_not_ended_keeps_its_order(served: Served, tmp_path: Path) -> None:
    """Methods cut models by it."""
    first = {name: np.full(2, rank, np.float32) for rank, name in enumerate(("stem", "head", "body"))}
    run = served.run(first)
    (tmp_path / "pulled").write_bytes(served.get(f"/v1/runs/{run['id']}/model").content)
    pulled = read_model(tmp_path / "pulled")
    assert list(pulled) == list(first)
    assert same_bits(pulled, first)


def test_the_next_task_rides_on_the_answer(served: Served) -> None:
    served.run(rounds=5)
    clients = asyncio.run(whole_run(served))
    assert [len(client.verdicts) for client in clients] == [6, 6]
    rows = served.get("/v1/runs/run/ledger").json()["rows"]
    asked = sum(row["requests"] for row in rows if row["kind"] == "register")
    assert asked < 12  # fewer than one per exchange and client
