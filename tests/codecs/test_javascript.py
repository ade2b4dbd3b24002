"""The text of `codecs/README.md` is enough: a decoder written from it in another language passes the golden vectors,
and an encoder writes what ours writes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from thinwire.codecs import Array, Chain, Spec

HERE = Path(__file__).parent
CHAINS = (
    "quantise",
    "quantise(1)",
    "quantise(4, per=channel, rounding=nearest)",
    "quantise(8, per=block, block=100, rounding=deadzone)",
    "quantise(3, per=bundle)",
    "quantise(8, spread=.5)",
    "entropy",
    "quantise(8), entropy",
    "quantise(8), entropy(adaptive)",
    "quantise(8, per=bundle, rounding=deadzone, spread=3), entropy(adaptive)",
    "quantise(8, per=bundle, spread=8), entropy(adaptive, sampling=True)",
    "quantise(5), entropy(adaptive, sampling=True)",
)


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < 20:
        pytest.skip(f"node {version.strip()} is older than 20")
    return found


def test_masks_and_a_quantised_update_decode_in_javascript(node: str) -> None:
    names = ["entropy-bits", "entropy-arrays", "entropy-gaps", "entropy-counts", "quantised-update", "adaptive-update"]
    done = subprocess.run(
        [node, str(HERE / "js" / "decode.mjs"), str(HERE / "vectors"), *names],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.stdout.split() == names


def _bundles() -> list[dict[str, Array]]:
    """Updates as they are: rows and columns of their own sizes, few values far away, all zero, of nothing."""
    random = np.random.default_rng(17)
    rows, columns = np.exp(random.standard_normal(60)), np.exp(random.standard_normal(90))
    sized = random.standard_normal((60, 90)) * rows[:, None] * columns
    return [
        {"w": sized.astype(np.float32), "b": random.standard_normal(60).astype(np.float32)},
        {"k": random.laplace(size=(8, 4, 3, 3)).astype(np.float32) ** 3, "codes": np.arange(40, dtype=np.uint8) % 7},
        {"z": np.zeros((5, 30), np.float32), "one": np.float32([-2.5]), "none": np.zeros((0, 4), np.float32)},
        {"long": (random.standard_normal(30_000) * (random.random(30_000) < 0.05)).astype(np.float32)},
    ]


def test_the_example_client_writes_what_we_write(node: str, tmp_path: Path) -> None:
    asked: list[dict[str, Any]] = []
    wanted: list[tuple[str, dict[str, str]]] = []
    for seed, arrays in enumerate(_bundles(), start=2**62):
        spec = Spec.of(arrays)
        for text in CHAINS:
            chain = Chain.parse(text)
            payload = chain.encode(arrays, spec, seed=seed)
            read = chain.decode(payload, spec, seed=seed)
            wanted.append((payload.hex(), {name: array.tobytes().hex() for name, array in read.items()}))
            plain = {name: array.reshape(-1).tolist() for name, array in arrays.items()}
            asked.append({"arrays": plain, "spec": spec.to_plain(), "chain": chain.to_plain(), "seed": str(seed)})
    file = tmp_path / "asked.json"
    file.write_text(json.dumps(asked))
    command = [node, str(HERE / "js" / "write.mjs"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    for request, (payload, read), found in zip(asked, wanted, json.loads(done.stdout), strict=True):
        assert found["payload"] == payload, (request["chain"], request["spec"])
        assert found["read"] == read, (request["chain"], request["spec"])
