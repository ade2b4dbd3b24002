"""Thinwire itself: a coordinator and real clients, whose task adds a constant to every weight."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from benchmarks.peers.watching import STAMPS, Case, Cost, trees, watch
from thinwire.operator.fleet import client_name
from thinwire.operator.lab import ENVIRONMENT, Lab
from thinwire.protocol.settings import RunSettings

TASK: Final = """
import os, time
import torch
from thinwire.edge_client.data import Data


class Constant(torch.nn.Module):
    # The gradient of the sum is one everywhere: one step of SGD changes every weight by the rate.
    def __init__(self):
        super().__init__()
        each = {elements} // {arrays}
        self.layers = torch.nn.ParameterList(torch.nn.Parameter(torch.randn(each)) for _ in range({arrays}))

    def forward(self, inputs):
        if self.training:
            with open(os.environ["THINWIRE_PEERS_STAMPS"], "a") as stamps:
                stamps.write(f"{{time.monotonic()}}\\n")
        return inputs * sum(layer.sum() for layer in self.layers)


def model():
    torch.manual_seed(0)
    return Constant()


def data(client):
    return Data(train=(torch.ones(1, 1), torch.zeros(1, dtype=torch.long)))


def loss(outputs, targets):
    return outputs.mean()
"""


def run(case: Case, folder: Path, *, chains: str) -> Cost:
    """`chains`: plain or default."""
    stamps, task = folder / "stamps", folder / "task.py"
    task.write_text(TASK.format(elements=case.size // 4, arrays=case.arrays))
    learns = ("--task", str(task))
    settings = RunSettings(
        name="peers", rounds=case.rounds, cohort=case.clients, evaluate=False, max_value=1e6,
        settings={"lr": 1e-3, "batch-size": 1},
        chains="plain" if chains == "plain" else "default",
    )  # fmt: skip
    with Lab(folder, environment={**ENVIRONMENT, STAMPS: str(stamps)}) as lab:
        server = lab.serve().process.pid
        lab.start_run(lab.first_model(learns), settings)
        invite = lab.write_invite("all", case.clients)
        clients = [lab.join(client_name(index), invite, learns).process.pid for index in range(case.clients)]
        return watch(f"thinwire, {chains} chains", case, stamps, trees(server), trees(*clients), lab.children.check)
