"""`thinwire new` and `thinwire-client task check`: what is made can be trained, and what will go wrong is said."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests import forked
from thinwire.operator.cli.app import app as operator_app
from thinwire.operator.cli.new import Template
from thinwire.protocol.exit_codes import Exit

HEAD = """
import torch
from torch import nn
from thinwire.edge_client.data import Data

def model():
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))

def data(client):
    return Data(train=(torch.randn(40, 4), torch.arange(40) % 3))
"""


def _check(task: Path, *more: str) -> tuple[int, str]:
    # Another process: this one has toy methods of other tests on its path.
    done = forked.run(["-m", "thinwire.edge_client", "task", "check", str(task), *more])
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("template", list(Template))
def test_every_template_can_be_trained(template: Template, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    made = CliRunner().invoke(operator_app, ["new", str(folder), "--template", template])
    assert made.exit_code == Exit.OK, made.output
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "run.toml", "task.py", "test_task.py"]
    code, said = _check(folder / "task.py", "--config", str(folder / "run.toml"), "--share", "1/3")
    assert code == Exit.OK, said
    assert "nothing that was looked for will go wrong" in said
    again = CliRunner().invoke(operator_app, ["new", str(folder)])
    assert again.exit_code == Exit.USAGE
    assert "is not empty" in again.output


def test_what_a_round_costs_is_what_the_codecs_make(tmp_path: Path) -> None:
    path = tmp_path / "task.py"
    path.write_text(HEAD)
    code, said = _check(path)
    assert code == Exit.OK, said
    assert "67 numbers in 4 arrays, 268 B as they are" in said
    assert "examples           40 of train\n" in said
    assert "no evaluation" in said
    assert "not progfed" not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("loss = nn.CrossEntropyLoss(reduction='sum')", "the loss is a sum over the batch"),
        (
            "def model():\n    net = nn.Sequential(nn.Linear(4, 3))\n    net.more = nn.Parameter(torch.ones(2))\n"
            "    net.forward = lambda x: net[0](x)\n    return net",
            "more never gets a gradient",
        ),
        ("def model():\n    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))", "BatchNorm's statistics"),
    ],
)
def test_what_will_go_wrong_is_said(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "task.py"
    path.write_text(f"{HEAD}\n{text}\n")
    code, output = _check(path)
    assert f"! {said}" in output, output
    assert code == Exit.FAILED


def test_labels_that_are_no_classes_are_told(tmp_path: Path) -> None:
    path = tmp_path / "task.py"
    path.write_text(HEAD.replace("torch.arange(40) % 3", "torch.tensor([0] * 30 + [7] * 10)"))
    code, output = _check(path)
    assert code == Exit.USAGE
    assert "10 labels are out of range, 7 for one; the model has 3 classes" in output


def test_a_rate_that_diverges_is_said(tmp_path: Path) -> None:
    path, run = tmp_path / "task.py", tmp_path / "run.toml"
    path.write_text(HEAD)
    run.write_text("[settings]\nlr = 90\nepochs = 3\n")
    code, output = _check(path, "--config", str(run))
    assert code == Exit.FAILED
    assert "one round raises the loss" in output
    assert "lower lr, which is 90" in output


@pytest.mark.parametrize(
    ("more", "said"), [("rounds = 0\n", "rounds: "), ("rounds = \n", "run.toml: "), ("colour = 3\n", "colour: ")]
)
def test_a_run_that_cannot_be_is_told(more: str, said: str, tmp_path: Path) -> None:
    path, run = tmp_path / "task.py", tmp_path / "run.toml"
    path.write_text(HEAD)
    run.write_text(more)
    code, output = _check(path, "--config", str(run))
    assert (code, said in output) == (Exit.USAGE, True), output
