"""A client in another language, written from the documents, serves runs beside one in Python; for the same arrays its
answers are ours to the byte.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.coordinator.numpy_client import NumpyClient
from tests.coordinator.served import Served
from thinwire.codecs import Array, Chain, Spec
from thinwire.methods.payloads import encode_answer
from thinwire.protocol.encoding import spec_digest

CLIENT = Path(__file__).resolve().parents[2] / "docs" / "examples" / "javascript" / "client.mjs"
CLASSES, WIDTH = 3, 4
MODEL: dict[str, Array] = {
    "weight": np.zeros((CLASSES, WIDTH), np.float32),
    "bias": np.zeros(CLASSES, np.float32),
}
RUNS: dict[str, dict[str, Any]] = {
    "fedavg": {"method": "fedavg", "settings": {"lr": 0.1, "batch_size": 4}},
    "fd_alu": {"method": "fd_alu", "settings": {"lr": 0.1, "knowledge": "class"}},
}
# What every Node can write; zstd came with 22.15.
CHAINS = {"fedavg": "cast(f16), byte_shuffle(2)", "fd_alu": "pack_bits, cast(f16)"}
DTYPES = {"bool": np.bool_, "u32": np.uint32, "f32": np.float32}


@pytest.fixture
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not on this machine")
    return found


class _Beside(NumpyClient):
    """Answers with knowledge that the method can read, where it is not the change of a model."""

    def perform(self, received: Any) -> tuple[bytes, int]:
        if received.plan.method != "fd_alu":
            return super().perform(received)
        arrays: dict[str, Array] = {
            "owned": np.ones(CLASSES, np.bool_), "counts": np.full(CLASSES, 10, np.uint32),
            "rows": np.eye(CLASSES, dtype=np.float32),
        }  # fmt: skip
        reply = Spec.from_plain(received.plan.reply)
        return encode_answer(arrays, reply, Chain.from_plain(received.plan.chains.up), reference={}, seed=0), 30


@pytest.mark.parametrize("method", RUNS)
def test_it_serves_a_run(serve: Callable[..., Served], node: str, tmp_path: Path, method: str) -> None:
    served = serve()
    chain = CHAINS[method]
    run = served.run(
        MODEL, name="abroad", rounds=2, cohort=2, seed=3, uplink=chain, downlink=chain,
        chains={"evaluate": {"down": "byte_shuffle"}} if method == "fedavg" else "default", **RUNS[method],
    )  # fmt: skip
    random = np.random.default_rng(5)
    targets = [index % CLASSES for index in range(30)]
    inputs = [[float(x) for x in random.standard_normal(WIDTH) + 2 * np.eye(WIDTH)[target]] for target in targets]
    data, record = tmp_path / "data.json", tmp_path / "record.json"
    data.write_text(json.dumps({"inputs": inputs, "targets": targets, "classes": CLASSES}))
    environment = {**os.environ, "THINWIRE_INVITE": served.invite(uses=1)}
    command = [node, str(CLIENT), served.url, "--name", "abroad", "--data", str(data), "--record", str(record)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    async def beside() -> None:
        async with httpx.AsyncClient(base_url=served.url, timeout=60) as http:
            client = _Beside(http, "beside", spec=spec_digest(Spec.of(MODEL)))
            await client.enrol(served.invite(uses=1))
            await client.work()

    try:
        asyncio.run(beside())
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, error
    assert (out.splitlines().count("round 1: accepted"), error) == (1, "")
    assert served.get(f"/v1/runs/{run['id']}").json()["outcome"] == "completed"
    answers = json.loads(record.read_text())
    assert len(answers) == 2
    for answer in answers:
        reply, chain_up = Spec.from_plain(answer["reply"]), Chain.from_plain(answer["up"])
        arrays = {
            name: np.array(found["data"], DTYPES[answer["reply"][name][0]]).reshape(found["shape"])
            for name, found in answer["arrays"].items()
        }
        assert any(array.any() for array in arrays.values())
        assert encode_answer(arrays, reply, chain_up, reference={}, seed=0).hex() == answer["payload"]
    exchanges = served.get(f"/v1/runs/{run['id']}/metrics").json()["exchanges"]
    assert exchanges[-1]["metrics"]["accuracy"] > 0.5  # half of it is what the other client says, always 0.5
