"""Thinwire itself: a coordinator and real clients, whose task adds a constant to every weight."""

from __future__ import annotations

import json
import os
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from benchmarks.peers.watching import STAMPS, Case, Cost, trees, watch
from thinwire.operator.client import Operator, find_token
from thinwire.operator.processes import Children, finish
from thinwire.protocol.messages import Invite, InviteRequest, RunRequest, RunView, StoredModel
from thinwire.protocol.places import ADDRESS_FILE
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
    stamps, task, model, invite = (folder / name for name in ("stamps", "task.py", "model.safetensors", "invite"))
    task.write_text(TASK.format(elements=case.size // 4, arrays=case.arrays))
    environment = os.environ | {"OMP_NUM_THREADS": "1", STAMPS: str(stamps)}
    with Children(folder / "logs") as children:
        init = ["model", "init", "--task", str(task), "--out", str(model)]
        finish(children.start("init", "thinwire.edge_client", init, environment), 120)
        place = folder / "coordinator"
        arguments = ["serve", "--port", "0", "--data-dir", str(place)]
        server = children.start("coordinator", "thinwire.coordinator", arguments, environment).process.pid
        while not (place / ADDRESS_FILE).exists():
            children.check()
            time.sleep(0.02)
        url = json.loads((place / ADDRESS_FILE).read_text())["url"]
        with closing(Operator(url, find_token(place))) as operator:
            asked = InviteRequest(uses=case.clients, expires_in_s=None)
            invite.write_text(operator.ask("POST", "/v1/invites", Invite, asked).invite)
            stored = operator.send_file("/v1/models", model, StoredModel)
            settings = RunSettings(
                name="peers", rounds=case.rounds, cohort=case.clients, evaluate=False, max_value=1e6,
                settings={"lr": 1e-3, "batch-size": 1},
                chains="plain" if chains == "plain" else "default",
            )  # fmt: skip
            operator.ask("POST", "/v1/runs", RunView, RunRequest(settings=settings, model=stored.digest))
            clients = []
            for index in range(case.clients):
                name = f"client-{index:02d}"
                options = ["--invite-file", str(invite), "--name", name, "--task", str(task), "--threads", "1",
                           "--data-dir", str(folder / name)]  # fmt: skip
                clients.append(
                    children.start(name, "thinwire.edge_client", ["join", url, *options], environment).process.pid
                )
            return watch(f"thinwire, {chains} chains", case, stamps, trees(server), trees(*clients), children.check)
