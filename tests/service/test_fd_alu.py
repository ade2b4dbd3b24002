"""Models that stay on their clients, of three architectures, over the real service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from thinwire.edge_client.data import ClientInfo
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.built_in import ProblemOptions, find_problem
from thinwire.methods.arrays import under
from thinwire.methods.checkpoint import pack_state
from thinwire.methods.client_half import client_half
from thinwire.methods.model_file import read_model
from thinwire.methods.registry import find_method
from thinwire.methods.simulation import Participant, simulate
from thinwire.operator.cli.app import app
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.settings import RunSettings

from .conftest import Service, until
from .test_simulation import checkpoint

ARCHITECTURES = ("mlp", "digits_convnet", "emnist_convnet")
CONSENT = "sample-knowledge"
LIMIT = 120


def test_three_architectures_and_three_kinds_of_knowledge_in_one_fleet(service: Service, digits_model: Path) -> None:
    """All runs end as their replay in one process does: the same states, the same payload bytes, and the last run's
    models on the clients.
    """
    runs = {}
    kinds: dict[str, dict[str, Any]] = {name: {"knowledge": name} for name in ("class", "proxy", "sample")}
    kinds["confident"] = {"knowledge": "proxy", "confident-share": 0.5}
    for name, kind in kinds.items():
        given = {"proxy-samples": 8, "batch-size": 32, **kind}
        settings = RunSettings(name=name, method="fd_alu", settings=given, rounds=2, cohort=3, seed=4)
        runs[service.start_run(digits_model, settings).id] = settings
    for index, architecture in enumerate(ARCHITECTURES):
        options = ("--architecture", architecture, "--limit", f"{LIMIT}/60", "--allow", CONSENT)
        service.join_digits(index, 3, *options, "--keep-model", str(service.folder / f"{index}.safetensors"))
    until(service.clients_have_ended, service.children)

    torch.set_num_threads(1)
    kept = [read_model(service.folder / f"{index}.safetensors") for index in range(3)]
    models = []
    for run, settings in runs.items():
        participants = replaying(settings)
        replayed = simulate(settings, read_model(digits_model), participants)
        assert service.view(run).outcome == "completed"
        assert checkpoint(service, run) == pack_state(replayed.state), settings.name
        exchanges = service.metrics(run).exchanges
        assert [one.uplink_payload_bytes + one.downlink_payload_bytes for one in exchanges] == [
            e.uplink_bytes + e.downlink_bytes for e in replayed.exchanges
        ]
        assert exchanges[-1].kind == "evaluate"
        assert exchanges[-1].uplink_payload_bytes == exchanges[-1].downlink_payload_bytes == 0
        assert exchanges[-1].metrics["accuracy"] == pytest.approx(replayed.exchanges[-1].mean("accuracy"))
        assert 0 <= exchanges[-1].metrics["personal_accuracy"] <= 1
        models.append([under("model", one.memory) for one in participants.values()])
    for index, found in enumerate(kept):
        assert any(
            all(np.array_equal(found[name], array) for name, array in of_run[index].items()) for of_run in models
        ), "not the model of any run"

    folder = str(service.data_dir)
    pulled = CliRunner().invoke(app, ["run", "pull", "class", "--data-dir", folder, "--out", str(service.folder / "m")])
    assert pulled.exit_code == Exit.REFUSED
    assert "no-global-model: This method keeps its models on the clients" in pulled.output
    assert not (service.folder / "m").exists()


def replaying(settings: RunSettings) -> dict[str, Participant]:
    half: Any = client_half("fd_alu")(find_method("fd_alu").settings.model_validate(settings.settings))
    found = {}
    for index, architecture in enumerate(ARCHITECTURES):
        task = find_problem("digits", ProblemOptions(architecture=architecture, train=LIMIT, test=60))
        client = ClientInfo(f"client-{index:02d}", index, 3, 0, "iid")
        found[client.name] = Participant(half, Learner(task, client, allow=[CONSENT]))
    return found
