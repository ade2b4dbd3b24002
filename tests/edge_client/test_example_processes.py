"""The example of one client with several processes: what they make together is what one makes alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import json, sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

torch.set_num_threads(1)

from tests.methods.fleet import train
from thinwire.edge_client.data import ClientInfo
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.problem_file import load_problem_file

problem = load_problem_file(Path("docs/examples/several_processes.py"))
ends, losses = [], []
for one in (problem, replace(problem, fit=None)):
    learner = Learner(one, ClientInfo(clients=4))
    learner.prepare(3)
    losses.append(train(learner, 0.05, epochs=2).loss)
    ends.append(learner.arrays())
furthest = max(float(np.abs(ends[0][name] - ends[1][name]).max()) for name in ends[0])
print(json.dumps({"furthest": furthest, "losses": losses}))
"""


@pytest.mark.long
def test_several_processes_train_as_one(root: Path) -> None:
    # In a process of its own: forks, and a compiler that torch's own wrapper loads, are no part of other tests.
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PROGRAM],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PROCESSES": "3"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["furthest"] < 1e-5
    together, alone = found["losses"]
    assert abs(together - alone) < 1e-5
