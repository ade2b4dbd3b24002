"""A data folder that fe71ef9 has left is served as it was: the same answers to the operator, and its runs go on to the
model of the plain loop. `tests/records/make_data_fe71ef9.py` made it.
"""

from __future__ import annotations

import asyncio
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from safetensors.numpy import load

from tests.coordinator.numpy_client import NumpyClient, simulate
from tests.coordinator.served import Served, free_port, model

PACKED = Path(__file__).parent.parent / "records" / "data_fe71ef9.tar.gz"
SETTINGS = {"steps": 2, "delta": True, "private": True}


@pytest.fixture
def old(tmp_path: Path) -> Iterator[Served]:
    with tarfile.open(PACKED) as archive:
        archive.extractall(tmp_path, filter="data")
    served = Served(tmp_path / "data", free_port())
    served.start()
    yield served
    served.kill()
    assert "Traceback" not in served.log, served.log[-5000:]


def told(old: Served, file: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((old.data_dir.parent / file).read_text())
    return found


def test_the_operator_is_told_what_the_old_version_told(old: Served) -> None:
    for path, before in told(old, "views.json").items():
        now = old.get(path).json()
        if path == "/v1/clients":
            for client in (*before["clients"], *now["clients"]):
                client.pop("seen_at", None)  # was in memory
        now.pop("waits_for", None)  # was not told
        assert now == before, path


def test_its_open_and_its_paused_run_end_in_the_bits_of_the_plain_loop(old: Served) -> None:
    tokens = told(old, "clients.json")
    runs = {run["name"]: run["id"] for run in old.get("/v1/runs").json()["runs"]}
    assert old.post(f"/v1/runs/{runs['paused']}/resume", {}).json()["state"] == "running"

    async def work() -> None:
        async with httpx.AsyncClient(base_url=old.url, timeout=60) as http:
            clients = []
            for name, known in tokens.items():
                client = NumpyClient(http, name, token=known["token"], through_upload=name.endswith("1"))
                clients.append(client)
            await asyncio.gather(*(client.work(stubborn=True) for client in clients))
            assert {verdict for client in clients for verdict in client.verdicts} == {"accepted"}

    asyncio.run(work())
    for name, group in (("open", "default"), ("paused", "ward")):
        assert old.get(f"/v1/runs/{runs[name]}").json()["outcome"] == "completed"
        names = [f"{group}-{index:02}" for index in range(3)]
        expected = simulate(model(4), 0, [names] * 4, SETTINGS, 2, cohort=3)
        found = load(old.get(f"/v1/runs/{runs[name]}/model").content)
        for array in expected:
            np.testing.assert_array_equal(found[array], expected[array])


def test_what_no_run_needs_any_more_is_gone_and_the_rest_lies_with_its_run(old: Served) -> None:
    payloads = old.data_dir / "payloads"
    assert [path for path in payloads.iterdir() if path.is_file()] == []
    finished = next(run for run in old.get("/v1/runs").json()["runs"] if run["state"] == "finished")
    assert [path.name for path in (payloads / finished["id"]).iterdir()] == [finished["model"]]
    old.kill()
    old.start()
    assert load(old.get(f"/v1/runs/{finished['id']}/model").content).keys() == {"weight", "bias"}
