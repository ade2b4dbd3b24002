"""Clients of a simulation in several processes are, to the bit and to the byte, those of one."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from thinwire.codecs import CodecError
from thinwire.edge_client.learner import NarrowChainError
from thinwire.edge_client.settings import SimulateSettings
from thinwire.edge_client.trials import Trials
from thinwire.methods.values import TaskRefusedError
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings
from thinwire.protocol.trials import TrialRequest

CLIENTS = 5
METHODS: dict[str, dict[str, Any]] = {
    "fedavg": {"uplink": "quantise(2), entropy", "settings": {"error-feedback": True}},
    "feddlr": {},
    "sparse_masks": {},
    "fd_alu": {},
}


@pytest.fixture(scope="module")
def trials() -> dict[int, Trials]:
    torch.set_num_threads(1)
    return {
        count: Trials(SimulateSettings(task="digits", clients=CLIENTS, processes=count, limit="200/60"))
        for count in (1, 2)
    }


@pytest.mark.parametrize("method", METHODS)
def test_who_answers_where_changes_nothing(trials: dict[int, Trials], tmp_path: Path, method: str) -> None:
    """Of methods that remember, send what is for one client alone, or have no model; a cohort that changes."""
    run = RunSettings(name="many", method=method, rounds=3, cohort=3, seed=2, **METHODS[method])
    files = {count: tmp_path / f"{count}.safetensors" for count in trials}
    one, two = (
        found.play(TrialRequest(run=run, model=files[count])).model_copy(update={"seconds": 0.0})
        for count, found in trials.items()
    )
    assert one.outcome == "completed", one.reason
    assert one == two
    assert files[1].exists() == files[2].exists() == (method != "fd_alu")
    if files[1].exists():
        assert files[1].read_bytes() == files[2].read_bytes()


def test_what_a_client_refuses_is_told_as_it_is(trials: dict[int, Trials]) -> None:
    before = _children()
    for given in ({"settings": {"lr": 100.0}}, {"method": "fd_alu", "settings": {"knowledge": "sample"}}):
        run = RunSettings(name="bad", rounds=2, cohort=3, **given)  # type: ignore[arg-type]
        one, two = (found.play(TrialRequest(run=run)) for found in trials.values())
        assert one.outcome == two.outcome != "completed"
        assert one.reason == two.reason
    assert _children() == before


def _children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


@pytest.mark.parametrize(
    "error",
    [
        CodecError("out-of-range", "x"),
        NarrowChainError("out-of-range", "y"),
        TaskRefusedError("run-invalid", "z"),
        ProblemError("too-many-requests", "w", retry_after_s=3.0),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_in_another_process(error: Any) -> None:
    """Handed on as a copy is made."""
    again = copy.copy(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
