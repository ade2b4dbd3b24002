"""The example of one client with several processes: what they make together is what one makes alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.coordinator.served import Served
from tests.edge_client.fleet import Fleet
from thinwire.edge_client.model import first_model
from thinwire.edge_client.problems.built_in import find_problem

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
    learner = Learner(one, ClientInfo(clients=4), device="cpu,cpu,cpu" if one.fit else "cpu")
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
        env={**os.environ},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["furthest"] < 1e-5
    together, alone = found["losses"]
    assert abs(together - alone) < 1e-5


@pytest.mark.long
def test_only_the_first_process_of_a_client_speaks(coordinator: Served, fleet: Fleet, root: Path) -> None:
    task = str(root / "docs" / "examples" / "several_processes.py")
    run = coordinator.run(dict(first_model(find_problem(task), 0)), method="fedavg", rounds=2, cohort=1)
    member = fleet.join(coordinator.url, "ward", "0/1", invite=coordinator.invite(), task=task, device="cpu,cpu")
    code, said = member.end()
    assert code == 0, said
    view = coordinator.get(f"/v1/runs/{run['id']}").json()
    assert view["outcome"] == "completed"
    ledger = coordinator.get(f"/v1/runs/{run['id']}/ledger").json()["rows"]
    assert sum(row["requests"] for row in ledger if row["kind"] == "answer") == 2  # and one of evaluation
    assert {row["client"] for row in ledger if row.get("client")} == {"ward"}
