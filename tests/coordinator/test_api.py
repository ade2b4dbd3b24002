"""The document of the interface keeps its word, and the client in curl that docs/api.md shows is one."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.coordinator.openapi import FILE, breaking, current
from tests.coordinator.served import Served
from thinwire.methods.model_file import read_model

TEXT = Path(__file__).resolve().parents[2] / "docs" / "api.md"


def _messages(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["components"]["schemas"]
    return found


def test_nothing_breaks_whoever_relies_on_the_document() -> None:
    assert list(breaking(json.loads(FILE.read_text()), current())) == []


def test_the_document_is_the_newest() -> None:
    assert json.loads(FILE.read_text()) == current(), "run: python -m tests.coordinator.openapi"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda new: new["paths"].pop("/v1/runs"), "GET /v1/runs is gone"),
        (lambda new: new["paths"]["/v1/runs"]["get"]["responses"].pop("200"), "GET /v1/runs: no answer 200 any more"),
        (lambda new: _messages(new).pop("RunView"), "RunView is gone"),
        (lambda new: _messages(new)["RunView"]["properties"].pop("state"), "RunView: state is gone"),
        (lambda new: _messages(new)["RunView"]["required"].remove("state"), "RunView: state may be missing"),
        (lambda new: _messages(new)["Enrolment"]["required"].append("name"), "Enrolment: name is wanted now"),
        (
            lambda new: new["paths"]["/v1/runs"]["get"].update(parameters=[{"name": "x", "required": True}]),
            "GET /v1/runs: wants x now",
        ),
    ],
)  # fmt: skip
def test_what_breaks_is_named(change: Callable[[dict[str, Any]], object], said: str) -> None:
    old = json.loads(FILE.read_text())
    change(new := copy.deepcopy(old))
    assert any(one.startswith(said) for one in breaking(old, new))


def test_the_client_in_curl_serves_a_run(serve: Callable[..., Served], tmp_path: Path) -> None:
    for tool in ("bash", "curl", "base64", "sha256sum"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on this machine")
    served = serve()
    blocks = re.findall(r"^```bash\n(.*?)^```", TEXT.read_text(), re.MULTILINE | re.DOTALL)
    script = "\n".join(["set -euo pipefail", "export LC_ALL=C", *blocks])
    environment = {**os.environ, "URL": served.url, "DATA": str(served.data_dir), "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"verdict":"accepted"') == 2
    assert np.array_equal(read_model(tmp_path / "by-curl.safetensors")["w"], np.float32([2, -2, 1]))
    assert (tmp_path / "model.payload").read_bytes() == b"\xc0" + bytes(12)
    assert (tmp_path / "by-curl.csv").read_text().startswith("run,client,")
