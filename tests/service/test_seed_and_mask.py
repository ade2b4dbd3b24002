"""A run of sparse_masks as a person sees it: start with a warning, a seed first, a final model of a few kilobytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from click.testing import Result
from safetensors.numpy import load_file
from typer import Typer
from typer.testing import CliRunner

from thinwire.edge_client.cli import app as edge_client
from thinwire.edge_client.data import ClientInfo
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.built_in import find_problem
from thinwire.methods.model_file import read_model
from thinwire.methods.sparse_masks.frozen import frozen_weights
from thinwire.operator.cli.app import app as coordinator
from thinwire.protocol.exit_codes import Exit

from .conftest import Service, until

CLIENTS, ROUNDS, SEED = 2, 7, 5


def test_a_seed_first_and_a_mask_in_the_end(service: Service, digits_model: Path) -> None:
    def command(app: Typer, *words: str) -> Result:
        return CliRunner().invoke(app, words, env={"THINWIRE_DATA_DIR": str(service.data_dir)})

    options = {"method": "sparse_masks", "name": "masks", "lambda": 5, "epochs": 2, "rounds": ROUNDS, "seed": SEED}
    assignments = [
        word for name, value in (options | {"cohort": CLIENTS}).items() for word in ("--set", f"{name}={value}")
    ]
    started = command(coordinator, "run", "start", "--model", str(digits_model), *assignments)
    assert started.exit_code == Exit.OK, started.stderr
    assert "warning: 7 rounds are more than 3 x cohort (2)" in started.stderr
    for index in range(CLIENTS):
        service.join_digits(index, CLIENTS)
    until(service.clients_have_ended, service.children)

    exchanges = service.metrics("masks").exchanges
    parameters = service.view("masks").parameters
    assert [one.downlink_payload_bytes == 0 for one in exchanges] == [True] + [False] * ROUNDS
    assert all(0 < 8 * one.uplink_payload_bytes < CLIENTS * (parameters + 16 * 8) for one in exchanges[:-1])
    shown = command(coordinator, "run", "show", "masks")
    assert "warning" in shown.stderr
    for word in ("bits/param", "density", "bpp_array", "accuracy_mean", "accuracy_samples"):
        assert word in shown.stdout

    packed, expanded, state = (
        service.folder / name for name in ("packed.safetensors", "whole.safetensors", "s.safetensors")
    )
    pulled = command(coordinator, "run", "pull", "masks", "--out", str(packed))
    assert pulled.exit_code == Exit.OK, pulled.stderr
    assert packed.stat().st_size < parameters / 8 + 1200
    done = command(edge_client, "model", "expand", str(packed), "--out", str(expanded))
    assert done.exit_code == Exit.OK, done.stderr
    assert f"{parameters} parameters" in done.stdout
    first, found = read_model(digits_model), read_model(expanded)
    assert list(found) == list(first)
    learner = Learner(find_problem("digits"), ClientInfo())
    frozen = frozen_weights(learner.spec, SEED, "signed")
    for name, array in found.items():
        assert np.array_equal(array[array != 0], frozen[name][array != 0])
    learner.load(found)
    measured = exchanges[-1].metrics
    assert learner.evaluate()["accuracy"] == measured["accuracy"] == measured["accuracy_mode"]

    exported = command(edge_client, "model", "export", str(packed), "--task", "digits", "--out", str(state))
    assert exported.exit_code == Exit.OK, exported.stderr
    assert load_file(state).keys() == first.keys()
    refused = command(edge_client, "model", "expand", str(service.folder / "client-00.json"), "--out", str(state))
    assert refused.exit_code == Exit.USAGE
    assert "not a model file (safetensors)" in refused.stderr
    listed = json.loads(command(coordinator, "methods", "--format", "json").stdout)["methods"]
    (mine,) = [method for method in listed if method["id"] == "sparse_masks"]
    assert "lambda" in {setting["name"] for setting in mine["settings"]}
