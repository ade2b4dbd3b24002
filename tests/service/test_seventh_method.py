"""The registry needs nothing but the folder: a method written here, in a temporary folder, runs over the service.

Majority vote of signs: J. Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems", ICML 2018,
arXiv 1802.04434, Algorithm 1, with what a client's epoch has changed for the gradient.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from thinwire.methods.model_file import read_model
from thinwire.protocol.exit_codes import Exit

from .conftest import DEADLINE_S, ENVIRONMENT

STEP, ROUNDS, CLIENTS = 0.01, 4, 3
FILES = {
    "__init__.py": """
from thinwire.methods.chains import Chains
from thinwire.methods.method import Method
from thinwire.methods.settings import LocalTraining


class Settings(LocalTraining):
    step: float = 0.001


def chains(settings):
    return {"vote": Chains.parse("byte_shuffle, zstd", "pack_bits")}


METHOD = Method("majority", "Majority vote of signs", "Bernstein et al. 2018", Settings, chains)
""",
    "server.py": """
import numpy as np

from thinwire.codecs import ArraySpec, Spec
from thinwire.methods.server_half import ServerHalf
from thinwire.methods.values import State, Task
from thinwire.methods.sums import ExactSum


class Server(ServerHalf):
    def __init__(self, settings, facts):
        super().__init__(settings, facts)
        self.reducer = ExactSum(facts.bounds, "uniform")

    def start(self, model, seed):
        return State(1, 0, dict(model))

    def task(self, state):
        if state.round > self.facts.rounds:
            return None
        votes = Spec([(name, ArraySpec("bool", array.shape)) for name, array in state.arrays.items()])
        return Task(state.round, 0, "vote", {"model": state.arrays}, votes)

    def advance(self, state, total):
        majority = {name: np.sign(2 * total.sums[name] - total.weights[name]) for name in state.arrays}
        step = np.float32(self.settings.step)
        return State(state.round + 1, 0, {n: w + step * majority[n].astype("f4") for n, w in state.arrays.items()})

    def model(self, state):
        return state.arrays
""",
    "client.py": """
from thinwire.methods.client_half import ClientHalf
from thinwire.methods.values import Answer, EVALUATE, Outcome
from thinwire.methods.training import change, train_locally


class Client(ClientHalf):
    def perform(self, task, memory, learner):
        if task.kind == EVALUATE:
            return self.evaluate(task, memory, learner)
        learner.load(task.arrays)
        metrics = learner.evaluate()
        train_locally(learner, self.settings, task)
        votes = {name: array > 0 for name, array in change(learner, task.arrays).items()}
        return Outcome(Answer(votes, len(learner.train), metrics), memory, memory)
""",
}


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Of processes that find the method."""
    folder = tmp_path / "root" / "thinwire" / "methods" / "majority"
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return {**ENVIRONMENT, "PYTHONPATH": str(tmp_path / "root")}


def thinwire(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "thinwire.operator", *arguments],
        env=environment, capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.returncode == Exit.OK, done.stdout + done.stderr
    return done.stdout


def test_a_method_in_a_folder_of_its_own_runs_over_the_service(tmp_path: Path, environment: dict[str, str]) -> None:
    assert "majority" in thinwire(environment, "methods")
    data, report = tmp_path / "data", tmp_path / "report"
    answer = thinwire(
        environment, "demo", "--method", "majority", "--set", f"step={STEP}", "--rounds", str(ROUNDS),
        "--format", "json", "--clients", str(CLIENTS), "--data-dir", str(data), "--report", str(report),
    )  # fmt: skip
    facts = json.loads(answer)
    rounds = json.loads((report / "rounds.json").read_text())["rounds"]
    assert rounds[-1]["loss"] < rounds[0]["loss"]
    # One bit a parameter, and what HTTP and messages add.
    assert 0 <= facts["uplink_bytes"] - ROUNDS * CLIENTS * -(-facts["parameters"] // 8) < ROUNDS * CLIENTS * 1000
    # Of three votes one side always has more: every parameter goes one step in every round.
    first, last = read_model(data / "demo-1" / "first-model.safetensors"), read_model(report / "model.safetensors")
    for name, array in first.items():
        steps = (last[name] - array) / np.float32(STEP)
        np.testing.assert_allclose(steps, np.rint(steps), rtol=0, atol=1e-3)
        assert set(np.rint(np.abs(steps)).astype(int).reshape(-1).tolist()) <= {0, 2, 4}
