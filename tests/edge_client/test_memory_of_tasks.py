"""A client holds its model, gradients, the optimiser's state and one batch: no more of it after many rounds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import gc, tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import Dataset

torch.set_num_threads(1)

from tests.edge_client.test_performer import Performed
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.problem_file import LearningProblem
from dataclasses import replace


class Rows(Dataset):
    def __len__(self): return 64
    def __getitem__(self, number): return torch.full((64,), float(number % 3)) + torch.rand(64), number % 3


class Adapted(nn.Module):
    def __init__(self):
        super().__init__()
        self.base = nn.Linear(64, 1024).requires_grad_(False)
        self.lora_A, self.lora_B = nn.Linear(64, 8, bias=False), nn.Linear(8, 1024, bias=False)
        self.head = nn.Linear(1024, 3)

    def forward(self, inputs):
        return self.head(self.base(inputs) + self.lora_B(self.lora_A(inputs)))


def resident():
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


problem = LearningProblem(Adapted, lambda _: Data(Rows()), nn.CrossEntropyLoss())
settings = {"local-optimizer": "adamw", "lr": 0.001, "local-state": "keep", "batch-size": 16}
performed = Performed(Learner(problem, ClientInfo("client-00")), Path(tempfile.mkdtemp()), "fedavg", settings)
first = performed.first()
seen = []
for round_ in range(1, 51):
    performed(replace(first, round=round_))
    if round_ in (10, 50):
        seen.append(resident())
travels = performed.learner.spec.max_bytes
print(seen[1] - seen[0], travels)
"""


@pytest.mark.long
def test_memory_is_flat_over_fifty_rounds_of_an_adapter(root: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    grown, travels = map(int, done.stdout.split())
    # What a leak of one model in each round would come to is forty of them; the allocator's own noise is some.
    assert grown < 10 * travels
