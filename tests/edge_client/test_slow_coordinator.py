"""A coordinator that does not answer in time, over sockets: what it was sent once crosses once."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from random import Random

import pytest
import torch
from torch import nn

from benchmarks.counting_proxy import CountingProxy
from tests.coordinator.served import Served
from tests.edge_client.scripted import Bias
from thinwire.edge_client.agent import Agent
from thinwire.edge_client.data import ClientInfo, Data
from thinwire.edge_client.enrolment import enrol
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.link.sockets import CountingBackend
from thinwire.edge_client.link.transfer import Patience, Transfer
from thinwire.edge_client.memory.folder import Folder
from thinwire.edge_client.problems.problem_file import LearningProblem
from thinwire.protocol.messages import Ledger

SIZE = 15_000
QUESTIONS = 3


class Stopping(Bias):
    """While it learns the coordinator stands still."""

    stops = 0

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        if self.training and Stopping.stops:
            os.kill(Stopping.stops, signal.SIGSTOP)
        return super().forward(inputs)


@pytest.mark.long  # each question waits for its answer; in process the law is one of tests/serve
def test_no_payload_crosses_twice_while_the_coordinator_stands_still(coordinator: Served, tmp_path: Path) -> None:
    assert coordinator.process is not None
    process, waited = coordinator.process.pid, []
    coordinator.run({"bias": torch.zeros(SIZE).numpy()}, method="fedavg", rounds=1, cohort=1, chains="plain")

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == QUESTIONS:
            os.kill(process, signal.SIGCONT)

    folder = Folder(tmp_path / "client")
    with CountingProxy(coordinator.url) as proxy:
        patience = Patience(stalled_after_s=0.5)
        transfer = Transfer(
            proxy.url, CountingBackend(), rng=Random(0), say=lambda _: None, patience=patience, sleep=sleep
        )
        try:
            enrol(transfer, folder, coordinator.invite(), "ann")
            data = Data((torch.rand(6, SIZE), torch.rand(6, SIZE)))
            problem = LearningProblem(lambda: Stopping(SIZE), lambda _: data, nn.MSELoss())
            agent = Agent(transfer, folder, Learner(problem, ClientInfo("ann")), say=lambda _: None)
            Stopping.stops = process
            agent.serve()
        finally:
            os.kill(process, signal.SIGCONT)
            Stopping.stops = 0
            transfer.close()
            folder.close()
    assert len(waited) >= QUESTIONS, "it was asked again and again"
    (run,) = coordinator.get("/v1/runs").json()["runs"]
    assert run["outcome"] == "completed", run
    ledger = Ledger.model_validate_json(coordinator.get(f"/v1/runs/{run['id']}/ledger").content)
    answers = [row for row in ledger.rows if row.kind == "answer"]
    assert sum(row.uplink_payload_bytes for row in answers) > 4 * SIZE
    assert proxy.uplink < 1.5 * 4 * SIZE, "and what crossed is that and headers"
