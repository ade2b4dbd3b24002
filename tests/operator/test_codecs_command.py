"""`thinwire codecs`: the list is the registry, and the figures are those of the payload."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from thinwire.codecs import CODECS, Chain, Spec
from thinwire.operator.cli.app import app
from thinwire.protocol.exit_codes import Exit

ARRAYS: dict[str, Any] = {
    "w": np.linspace(-1, 1, 600, dtype="<f4").reshape(20, 30),
    "k": np.arange(7, dtype="<i8"),
    "scalar": np.asarray(0.1, "<f4"),
    "empty": np.zeros((0, 3), "<f4"),
}


@pytest.fixture
def file(tmp_path: Path) -> str:
    save_file(ARRAYS, tmp_path / "arrays.safetensors")
    return str(tmp_path / "arrays.safetensors")


def _json(*words: str) -> Any:
    done = CliRunner().invoke(app, ["codecs", *words, "--format", "json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_list_is_the_registry() -> None:
    found = _json()["codecs"]
    assert [item["name"] for item in found] == list(CODECS)
    assert {"name": "level", "type": "int", "default": 3} in next(i for i in found if i["name"] == "zstd")["settings"]
    assert all(name in CliRunner().invoke(app, ["codecs"]).stdout for name in CODECS)


def test_the_figures_are_the_payloads(file: str) -> None:
    found = _json("try", file, "--chain", "cast(f16), zstd")
    chain, spec = Chain.parse("cast(f16), zstd"), Spec.of(ARRAYS)
    assert {row["name"] for row in found["arrays"]} == set(ARRAYS)
    total = found["total"]
    assert total["bytes_before"] == sum(array.nbytes for array in ARRAYS.values())
    # The file has an order of its own, which moves a few bytes of the compressed frame.
    assert total["bytes_after"] == pytest.approx(len(chain.encode(ARRAYS, spec)), rel=0.05)
    assert total["ratio"] == total["bytes_before"] / total["bytes_after"]
    exact = np.concatenate([array.astype("<f8").reshape(-1) for array in ARRAYS.values()])
    errors = np.abs(exact.astype("<f2").astype("<f8") - exact)
    assert total["largest_error"] == errors.max() > 0
    assert total["rms_error"] == pytest.approx(np.sqrt((errors**2).mean()))


def test_each_array_has_a_payload_of_its_own(file: str) -> None:
    rows = {row["name"]: row for row in _json("try", file, "--chain", "")["arrays"]}
    for name, array in ARRAYS.items():
        assert rows[name]["bytes_before"] == array.nbytes
        assert rows[name]["bytes_after"] == array.nbytes + 2  # the header: one array of four
        assert rows[name]["largest_error"] == rows[name]["rms_error"] == 0


def test_a_delta_is_from_the_reference(file: str) -> None:
    found = _json("try", file, "--chain", "delta, zstd", "--reference", file)["total"]
    assert found["bytes_after"] < 150
    assert found["largest_error"] == 0


def test_the_table_has_a_row_for_each_array_and_one_for_all(file: str) -> None:
    shown = CliRunner().invoke(app, ["codecs", "try", file, "--chain", "zstd"]).stdout
    assert all(any(line.split()[:1] == [name] for line in shown.splitlines()) for name in (*ARRAYS, "all"))


def test_numbers_that_are_none_come_back(tmp_path: Path) -> None:
    save_file({"x": np.array([np.nan, np.inf, 1.0], "<f4")}, tmp_path / "x.safetensors")
    assert _json("try", str(tmp_path / "x.safetensors"), "--chain", "zstd")["total"]["largest_error"] == 0


@pytest.mark.parametrize("chain", ["nothing", "zstd, cast(f16)", "delta", "cast(f16"])
def test_a_chain_that_cannot_be_is_wrong_usage(file: str, chain: str) -> None:
    done = CliRunner().invoke(app, ["codecs", "try", file, "--chain", chain])
    assert done.exit_code == Exit.USAGE
    assert done.stderr.startswith("thinwire: ")


def test_a_file_that_is_none_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("not arrays")
    for name in ("text", "missing"):
        done = CliRunner().invoke(app, ["codecs", "try", str(tmp_path / name), "--chain", "zstd"])
        assert done.exit_code == Exit.USAGE
        assert done.stderr.startswith("thinwire: ")
