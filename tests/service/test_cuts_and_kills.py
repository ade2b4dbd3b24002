"""The bill under cuts and kills together: ledger and what it lacked, beside a counting proxy."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.cutting_proxy import CuttingProxy
from thinwire.edge_client.model import first_model
from thinwire.edge_client.problems.built_in import find_problem
from thinwire.methods.model_file import model_bytes
from thinwire.operator.tables import total
from thinwire.protocol.settings import RunSettings

from .conftest import Service, until

TASK = """
import torch
from torch import nn
from thinwire.edge_client.data import Data

def model():
    return nn.Sequential(nn.Linear(10, 1000), nn.ReLU(), nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, 3))

def data(client):
    g = torch.Generator().manual_seed(client.index)
    x = torch.randn(60, 10, generator=g)
    return Data(train=(x[:40], x[:40, :3].argmax(1)), evaluation=(x[40:], x[40:, :3].argmax(1)))
"""
RATE = "16mbit"
CUT_AFTER = 1_500_000
WINDOW = 16_384
KILLS = 5
EVERY_S = 3.0
SETTINGS = RunSettings(name="cut", rounds=4, cohort=1, chains="plain")


@pytest.mark.long
def test_within_one_percent_of_what_crossed_over_cuts_and_kills(service: Service, tmp_path: Path) -> None:
    """4 MB models both ways at 2 MB/s, each connection cut after 1.5 MB, the coordinator killed again and again."""
    task = tmp_path / "task.py"
    task.write_text(TASK)
    model = tmp_path / "first.safetensors"
    model.write_bytes(model_bytes(first_model(find_problem(str(task)), 0)))
    with CuttingProxy(service.url, cut_up=CUT_AFTER, cut_down=CUT_AFTER, window=WINDOW) as proxy:
        words = ("--task", str(task), "--max-uplink", RATE, "--max-downlink", RATE)
        service.clients["client-00"] = service.join(
            "client-00", service.write_invite("client-00"), words, url=proxy.url
        )
        run = service.start_run(model, SETTINGS).id
        for _ in range(KILLS):
            time.sleep(EVERY_S)  # traffic goes on meanwhile
            service.serve(service.kill())
        assert service.view(run).state != "finished"
        until(service.clients_have_ended, service.children)
        crossed = proxy.total
    assert service.view(run).outcome == "completed"
    assert proxy.cuts > KILLS
    rows = [row for row in service.ledger(run).rows if row.client == "client-00"]
    counted, lacking = total(rows), total(row for row in rows if row.kind == "unaccounted")
    print(f"crossed {crossed}, counted {counted.uplink, counted.downlink}, of it {lacking} unaccounted")
    assert lacking.uplink > 0  # a killed coordinator forgets what it had not stored yet
    assert counted.uplink == pytest.approx(crossed[0], rel=0.01)
    assert counted.downlink == pytest.approx(crossed[1], rel=0.01)
