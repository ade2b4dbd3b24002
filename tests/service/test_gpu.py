"""Clients that train on a GPU: `pytest tests/service/test_gpu.py` where torch sees one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from thinwire.methods.registry import method_ids
from thinwire.operator.cli.app import app

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no GPU here")


@pytest.mark.parametrize("method", method_ids())
def test_every_method_trains_there_to_the_same_bits_twice(method: str, tmp_path: Path) -> None:
    found = [_demo(method, tmp_path / str(turn)) for turn in range(2)]
    assert found[0] == found[1]
    assert found[0][0]["accuracy"] > 0.2


def _demo(method: str, report: Path) -> tuple[dict[str, Any], bytes]:
    arguments = ["demo", "--method", method, "--rounds", "6", "--clients", "3", "--architecture", "digits_convnet"]
    result = CliRunner().invoke(app, [*arguments, "--device", "cuda", "--format", "json", "--report", str(report)])
    assert result.exit_code == 0, result.stderr
    told, model = json.loads(result.stdout), report / "model.safetensors"
    return {key: told[key] for key in ("accuracy", "loss")}, model.read_bytes() if model.exists() else b""
