"""Local training: torch's own steps to the bit, without what makes a client heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from thinwire.methods.training import Sgd


def _model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 5, 3), nn.GroupNorm(1, 5), nn.ReLU(), nn.Flatten(), nn.Linear(5 * 36, 7))


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
def test_descent_is_sgd_of_torch_to_the_bit(momentum: float, weight_decay: float) -> None:
    """Also with a parameter that is frozen, and with one that has no gradient in some steps."""
    found = []
    for ours in (True, False):
        model = _model()
        model[1].bias.requires_grad_(False)
        optimiser = (
            Sgd(0.1, momentum, weight_decay).build(model)
            if ours
            else torch.optim.SGD(
                [p for p in model.parameters() if p.requires_grad], 0.1, momentum, weight_decay=weight_decay
            )
        )
        inputs = torch.randn(5, 6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
        for step in range(5):
            optimiser.zero_grad()
            model(inputs[step]).square().mean().backward()
            if step in (0, 3):
                model[0].bias.grad = None
            optimiser.step()
        found.append([p.detach().clone() for p in model.parameters()])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(*found, strict=True))


TRAINING = """
import sys
from benchmarks.training import WORKLOADS, learner_of, performed, stages_of
from thinwire.methods.registry import method_ids

learner = learner_of(WORKLOADS[0], 64)
learner.prepare(0)
first = learner.arrays()
for method in method_ids():
    for settings in stages_of(method, first).values():
        performed(method, settings, learner, first)()
    assert "torch._dynamo" not in sys.modules, method
"""


def test_no_client_loads_a_compiler(root: Path) -> None:
    """torch._dynamo costs a device a second of its processor and 76 MB, and objects of torch.optim load it."""
    done = subprocess.run([sys.executable, "-c", TRAINING], cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
