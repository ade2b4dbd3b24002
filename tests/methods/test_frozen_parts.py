"""What does not travel has marks, and who has something else hears which."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from thinwire.methods.arrays import Model
from thinwire.methods.definition import define
from thinwire.methods.frozen_parts import first_difference, marks_of
from thinwire.methods.model_file import model_bytes, read_model
from thinwire.methods.tensors import frozen_digests, model_arrays
from thinwire.protocol.settings import RunSettings


def backbone(seed: int, layers: int = 2) -> nn.Sequential:
    torch.manual_seed(seed)
    net = nn.Sequential(*(nn.Linear(3, 3) for _ in range(layers)), nn.BatchNorm1d(3), nn.Linear(3, 2))
    for layer in list(net)[:layers]:
        layer.requires_grad_(False)
    return net


def test_the_first_array_that_differs_is_named() -> None:
    ours = frozen_digests(backbone(0))
    assert list(ours) == ["0.weight", "0.bias", "1.weight", "1.bias"], "batches are counted by everybody for itself"
    assert ours == frozen_digests(backbone(0))
    marks = marks_of(ours)
    assert first_difference(ours, marks) == ""
    other = backbone(0)
    with torch.no_grad():
        other[1].weight[0, 0] += 1e-6
    assert first_difference(frozen_digests(other), marks) == "1.weight"
    assert "another number" in first_difference(frozen_digests(backbone(0, 3)), marks)
    assert "another number" in first_difference({}, marks)
    assert marks_of({}) == ()
    # What is trained makes no difference.
    with torch.no_grad():
        other = backbone(0)
        other[-1].weight += 1
    assert first_difference(frozen_digests(other), marks) == ""


def test_of_many_arrays_neighbours_share_a_mark() -> None:
    marks = marks_of(frozen_digests(backbone(0, 20)))
    assert len(marks) == 16
    assert first_difference(frozen_digests(backbone(1, 20)), marks).startswith("one of 0.bias to ")


@pytest.mark.parametrize("given", [None, "any", ("00000000",)])
def test_a_run_has_the_marks_of_its_model_file_unless_it_says_otherwise(
    given: str | tuple[str, ...] | None, tmp_path: Path
) -> None:
    net = backbone(0)
    marks = marks_of(frozen_digests(net))
    arrays = model_arrays(net)
    (tmp_path / "file").write_bytes(model_bytes(Model(arrays, arrays.buffers, marks)))
    found = read_model(tmp_path / "file")
    assert found.frozen == marks
    run = define("run001", RunSettings(frozen=given)).for_model(found)  # type: ignore[arg-type]
    assert run.run.frozen == (given or marks)
    task = run.server.task(run.first_state(found))
    assert task is not None
    assert run.plan(task, {}).frozen == (None if given == "any" else list(given or marks))
    # As the rows keep it.
    assert RunSettings(**run.run.model_dump(mode="json", by_alias=True)) == run.run
    # A file without such parts is what it was before there were marks.
    assert b"frozen" not in model_bytes(model_arrays(nn.Linear(2, 2)))
