"""Runs are compared by a score of the task's own, an error that has to fall."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from thinwire.edge_client.settings import SimulateSettings
from thinwire.edge_client.trials import Trials
from thinwire.methods.rounds import rounds_of
from thinwire.operator.compare import simulate_comparison
from thinwire.operator.fleet import Fleet
from thinwire.operator.reports.comparison import comparison_cells, comparison_facts
from thinwire.operator.simulated import Simulations
from thinwire.protocol.settings import RunSettings
from thinwire.protocol.trials import TrialExchange, TrialPlace, TrialRequest, TrialResult

TASK = """
import torch
from torch import nn
from thinwire.edge_client.data import Data

loss = nn.MSELoss()

def model():
    return nn.Linear(8, 1)

def data(client):
    inputs = torch.randn(48, 8, generator=torch.Generator().manual_seed(client.index))
    targets = inputs.sum(1, keepdim=True)
    return Data((inputs[:32], targets[:32]), (inputs[32:], targets[32:]))

def summary(outputs, targets):
    return {"rmse": float((outputs - targets).square().mean().sqrt())}
"""


class Here:
    """Plays in this process what a process of its own would."""

    def __init__(self, task: Path) -> None:
        self._trials = Trials(SimulateSettings(task=str(task), clients=2))

    def begin(self) -> TrialPlace:
        return self._trials.place()

    def follow(self, request: TrialRequest, told: Callable[[TrialExchange], None]) -> TrialResult:
        return self._trials.play(request, told)


def test_an_error_is_a_target_that_is_reached_from_above(tmp_path: Path) -> None:
    task = tmp_path / "task.py"
    task.write_text(TASK)
    ways = {
        "plain": {"chains": "plain"},
        "bits": {"uplink": "quantise(8), zstd", "downlink": "delta, quantise(8), zstd"},
    }
    runs = [
        RunSettings(name=name, rounds=6, cohort=2, best="rmse", settings={"lr": 0.02, "epochs": 1}, **way)
        for name, way in ways.items()
    ]
    found = simulate_comparison(Simulations(Here(task)), runs, tmp_path, lambda _: None, lambda _view, _rounds: None)
    errors = [one.metrics["rmse"] for one in found.results[0].exchanges]
    assert errors == sorted(errors, reverse=True)
    target = (errors[2] + errors[3]) / 2
    facts = comparison_facts(found.by("rmse"), Fleet(clients=2, task=str(task)), target)
    plain, bits = facts["runs"]
    assert facts["score"] == "rmse"
    # The model that is measured in the fourth exchange is there after the third round.
    assert plain["bytes_to_target"] == rounds_of(found.results[0].exchanges, "rmse")[3].total_bytes
    assert bits["saved_share"] == 1 - bits["bytes_to_target"] / plain["bytes_to_target"]
    assert f"{errors[-1]:.4f}" in "".join(comparison_cells(facts)[0])
    unreached = comparison_facts(found.by("rmse"), Fleet(clients=2, task=str(task)), errors[-1] / 100)
    assert [one["bytes_to_target"] for one in unreached["runs"]] == [None, None]
