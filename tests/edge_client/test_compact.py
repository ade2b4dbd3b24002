"""`thinwire-client model compact`: a smaller file that computes what the truncated model computes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import torch

from tests import forked
from tests.methods.fleet import train
from thinwire.edge_client.data import ClientInfo
from thinwire.edge_client.held_model import fresh_model
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.model import compact_arrays, first_model
from thinwire.edge_client.problems.built_in import find_problem
from thinwire.methods.feddlr.compact import compact_like, truncate_model
from thinwire.methods.model_file import model_bytes, read_model
from thinwire.methods.tensors import load_arrays
from thinwire.protocol.exit_codes import Exit

TASK = find_problem("digits")


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.run(["-m", "thinwire.edge_client", "model", "compact", "--task", "digits", *arguments])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    path.write_bytes(model_bytes(first_model(TASK, 1)))
    return path


@pytest.mark.parametrize("more", [[], ["--spatial"]])
def test_the_file_builds_the_truncated_model(file: Path, tmp_path: Path, more: list[str]) -> None:
    out = tmp_path / "compact.safetensors"
    done = command(str(file), "--out", str(out), "--energy", "0.4", *more)
    assert done.returncode == Exit.OK, done.stderr
    assert "parameters 13706 ->" in done.stdout
    assert out.stat().st_size < file.stat().st_size
    model = fresh_model(TASK).eval()
    compact = compact_like(model, read_model(out))
    load_arrays(model, read_model(file))
    truncated = truncate_model(model, energy=0.4, unfolding="spatial" if more else "channel")
    inputs = Learner(TASK, ClientInfo()).train.inputs[:20]
    with torch.no_grad():
        torch.testing.assert_close(compact(inputs), truncated(inputs), rtol=0, atol=2e-5)


def test_a_tolerance_finds_an_energy_that_keeps_it() -> None:
    torch.set_num_threads(1)
    learner = Learner(TASK, ClientInfo())
    train(learner, 0.05, epochs=3, batch_size=16)
    arrays = learner.arrays()
    whole = learner.evaluate()["loss"]
    sizes = []
    for tolerance in (0.001, 10.0):
        found, words = compact_arrays(TASK, arrays, 0, energy=None, tolerance=tolerance, unfolding="channel")
        assert learner.evaluate(compact_like(learner.model, found).eval())["loss"] <= whole + tolerance + 1e-5
        sizes.append(sum(array.size for array in found.values()))
        assert words.startswith("energy ")
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize("more", [["--energy", "0.5", "--tolerance", "1"], ["--energy", "0"]])
def test_wrong_options_are_said_so(file: Path, tmp_path: Path, more: list[str]) -> None:
    done = command(str(file), "--out", str(tmp_path / "out.safetensors"), *more)
    assert done.returncode == Exit.USAGE
    assert "energy" in done.stderr
    assert not (tmp_path / "out.safetensors").exists()
