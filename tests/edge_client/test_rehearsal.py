"""A slip in a user's model, loss or data shows before anything is said to a coordinator, in their own lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from thinwire.edge_client.cli import app
from thinwire.edge_client.data import ClientInfo
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.built_in import find_problem
from thinwire.edge_client.problems.problem_file import ProblemFileError, load_problem_file
from thinwire.edge_client.rehearsal import rehearse
from thinwire.methods.arrays import same_bits
from thinwire.protocol.exit_codes import Exit

HEAD = """\
import torch
from torch import nn
from thinwire.edge_client.data import Data

inputs, labels = torch.randn(240, 10, generator=torch.Generator().manual_seed(0)), torch.arange(240) % 3
"""
MODEL = "def model(): return nn.Sequential(nn.Linear(10, 16), nn.BatchNorm1d(16), nn.Dropout(), nn.Linear(16, 3))\n"
DATA = "def data(client): return Data((inputs[:200], labels[:200]), (inputs[200:], labels[200:]))\n"
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(10, 3)
    def forward(self, x): return self.layer(x) * {{"hospital-a": 1.0}}[{key!r}]
def model(): return Net()
"""
SLIPS = {
    "keyerror": (NET.format(key="hospital-b") + DATA, "KeyError: 'hospital-b'"),
    "float64": (MODEL + DATA + "inputs = inputs.double()\n", "inputs are float64 and the model's parameters float32"),
    "int32": (MODEL + DATA + "labels = labels.int()\n", r"targets are int32.*targets\.long\(\)"),
    "per example": (MODEL + DATA + "loss = nn.CrossEntropyLoss(reduction='none')\n", r"shape \(8,\); it is one number"),
    "not a tensor": (MODEL + DATA + "def loss(o, t): return 1.0\n", "the loss is a float"),
    "nothing learnt": (MODEL + DATA + "def loss(o, t): return o.detach().sum()\n", "does not depend on any parameter"),
    "sparse": (
        "def model(): return nn.Sequential(nn.Embedding(3, 3, sparse=True))\n"
        "def data(client): return Data((labels, labels))\n",
        "sparse=False",
    ),
    "nan": (
        MODEL + DATA + "inputs[17, 4] = inputs[3, 1] = torch.nan\n",
        "train: 2 of 200 examples hold NaN.* number 3",
    ),
    "nan held out": (
        MODEL + DATA + "inputs[230, 4] = torch.nan\n",
        "evaluation: 1 of 40 examples hold NaN.* number 30",
    ),
    "nan of the loss": (MODEL + DATA + "def loss(o, t): return (o.sum() * 0).log()\n", "all their numbers are finite"),
}


def _problem_file(folder: Path, text: str) -> Path:
    path = folder / "task.py"
    path.write_text(HEAD + text)
    return path


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_told_before_anything_is_sent(slip: str, tmp_path: Path) -> None:
    text, what = SLIPS[slip]
    path = _problem_file(tmp_path, text)
    learner = Learner(load_problem_file(path), ClientInfo())
    with pytest.raises(ProblemFileError, match=f"(?s){what}"):
        rehearse(learner, path)


@pytest.mark.usefixtures("kept_settings")
def test_the_users_own_lines_are_shown_and_nothing_is_sent(tmp_path: Path) -> None:
    path = _problem_file(tmp_path, SLIPS["keyerror"][0])
    arguments = ["join", "http://127.0.0.1:9", "--invite-file", str(path), "--task", str(path)]
    done = CliRunner().invoke(app, [*arguments, "--data-dir", str(tmp_path / "c"), "--name", "one", "--quiet"])
    assert done.exit_code == Exit.USAGE
    assert f'File "{path}", line 11, in forward' in done.output
    assert "Traceback" not in done.output
    assert done.output.count("File ") == 1


def test_a_rehearsal_changes_nothing(tmp_path: Path) -> None:
    """Neither parameters nor statistics, nor modes, nor the random numbers that follow."""
    path = _problem_file(tmp_path, MODEL + DATA)
    learner, other = (Learner(load_problem_file(path), ClientInfo()) for _ in range(2))
    learner.model[1].eval()  # type: ignore[index, operator]
    torch.manual_seed(5)
    rehearse(learner, path)
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))
    for (name, tensor), kept in zip(learner.model.state_dict().items(), other.model.state_dict().values(), strict=True):
        assert torch.equal(tensor, kept), name
    assert same_bits(learner.arrays(), other.arrays())
    assert [module.training for module in learner.model.modules()] == [True, True, False, True, True]
    assert all(parameter.grad is None for parameter in learner.model.parameters())


def test_a_model_that_has_a_way_with_missing_numbers_may_have_them(tmp_path: Path) -> None:
    filled = "class Fill(nn.Module):\n    def forward(self, x): return torch.nan_to_num(x)\n"
    model = "def model(): return nn.Sequential(Fill(), nn.Linear(10, 3))\n"
    path = _problem_file(tmp_path, filled + model + DATA + "inputs[17, 4] = torch.nan\n")
    rehearse(Learner(load_problem_file(path), ClientInfo()), path)


@pytest.mark.parametrize(
    ("model", "what"),
    [
        ("nn.Sequential(nn.Linear(10, 3), nn.LazyLinear(3))", r"1\.weight has no shape yet"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules are a new feature:UserWarning")
@pytest.mark.parametrize("command", ["init", "spec"])
def test_a_model_that_cannot_travel_is_told_by_every_command(
    model: str, what: str, command: str, tmp_path: Path
) -> None:
    path = _problem_file(tmp_path, f"def model(): return {model}\n{DATA}")
    with pytest.raises(ProblemFileError, match=what):
        Learner(load_problem_file(path), ClientInfo())
    done = CliRunner().invoke(app, ["model", command, "--task", str(path)])
    assert (done.exit_code, "Error" in done.output) == (Exit.USAGE, False), done.output


def test_what_nothing_uses_is_named(tmp_path: Path) -> None:
    text = MODEL + DATA + "def train(model): pass\ndef helper(): return 1\nscheduler = helper()\nUNUSED = 3\n"
    notes = load_problem_file(_problem_file(tmp_path, text)).notes
    assert [note.partition(": ")[2].partition(";")[0] for note in notes] == [
        "nothing uses train",
        "nothing uses scheduler",
    ]
    assert "model, data, loss, encode" in notes[0]


@pytest.mark.parametrize("from_its_folder", [True, False])
def test_a_module_beside_the_file_is_found_by_every_command(from_its_folder: bool, tmp_path: Path) -> None:
    (tmp_path / "net_beside.py").write_text("import torch\ndef build(): return torch.nn.Linear(10, 3)\n")
    path = _problem_file(tmp_path, "from net_beside import build\ndef model(): return build()\n" + DATA)
    code = "import sys; sys.path = [p for p in sys.path if p]; from thinwire.edge_client.cli import app; app()"
    done = subprocess.run(
        [sys.executable, "-c", code, "model", "spec", "--task", path.name if from_its_folder else str(path)],
        capture_output=True,
        text=True,
        cwd=tmp_path if from_its_folder else "/",
    )
    assert done.returncode == 0, done.stderr
    assert "33 parameters" in done.stdout


@pytest.mark.parametrize("name", ["Müller", "ward 3", "", "-x", "a" * 65, "../up"])
def test_a_name_that_cannot_be_is_told_with_those_that_can(name: str, tmp_path: Path) -> None:
    given = ["join", "http://127.0.0.1:9", "--task=digits", f"--name={name}", f"--data-dir={tmp_path}"]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == Exit.USAGE
    assert "--name: a name has 1 to 64 of the characters A-Z a-z 0-9 . _ -" in done.output


def test_who_has_no_home_is_told_what_to_give(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    done = CliRunner().invoke(app, ["rotate"])
    assert done.exit_code == Exit.USAGE
    assert "no home folder; give --data-dir" in done.output


@pytest.mark.parametrize(
    ("array", "what"),
    [
        (np.array(["3", "1"]), "holds <U1, not numbers"),
        (None, "it is one array; an npz file holds several by name"),
    ],
)
def test_data_of_another_kind_are_told(array: np.ndarray | None, what: str, tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    if array is None:
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    else:
        np.savez(path, x_train=np.zeros((2, 3)), y_train=array, x_test=np.zeros((2, 3)), y_test=array)
    with pytest.raises(ProblemFileError, match=what):
        find_problem(f"npz:{path}")
