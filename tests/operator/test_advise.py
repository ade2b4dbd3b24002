"""`thinwire advise`: it learns which rates hold, goes on where it was, and its bytes are those of a real run."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from thinwire.edge_client.settings import SimulateSettings
from thinwire.edge_client.trials import Trials
from thinwire.operator.advise import Goal, advise, plain
from thinwire.operator.advise_bytes import total
from thinwire.operator.cli.app import app
from thinwire.operator.run_file import as_toml
from thinwire.protocol.settings import RunSettings
from thinwire.protocol.trials import TrialPlace, TrialRequest, TrialResult

TASK = """
import torch
from thinwire.edge_client.data import Data


def model():
    return torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 4))


def data(client):
    generator = torch.Generator().manual_seed(client.index)
    inputs = torch.randn(120, 8, generator=generator)
    targets = inputs[:, :4].argmax(1)
    return Data(train=(inputs[:80], targets[:80]), evaluation=(inputs[80:], targets[80:]))
"""


class Here:
    """Trials in this process; each counts for a second."""

    def __init__(self, trials: Trials) -> None:
        self._trials = trials
        self.played: dict[str, TrialResult] = {}

    @property
    def spent_s(self) -> float:
        return float(len(self.played))

    def begin(self) -> TrialPlace:
        return self._trials.place()

    def play(self, request: TrialRequest) -> TrialResult:
        key = request.model_dump_json()
        if key not in self.played:
            self.played[key] = self._trials.play(request)
        return self.played[key]


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    file = tmp_path_factory.mktemp("task") / "task.py"
    file.write_text(TASK)
    return Trials(SimulateSettings(task=str(file), clients=2))


@pytest.fixture
def here(trials: Trials) -> Here:
    return Here(trials)


def test_the_advice_is_what_was_played(here: Here) -> None:
    found = advise(here, Goal(rounds=4, target=0.45), 0, 12.0, lambda _name, _spent: None)
    assert not {one.candidate.name for one in found.tried} & set(found.dropped)
    assert found.chosen is not None
    assert found.reached
    settings = RunSettings.model_validate(tomllib.loads(as_toml(plain(found.chosen.settings))))
    again = here.play(TrialRequest(run=settings))
    assert total(again, found.place) == found.chosen.points[-1].wire
    assert found.chosen.points[-1].scores["accuracy"] >= 0.45


def test_a_rate_that_diverges_is_dropped_and_named(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thinwire.operator.advise_space.RATES", ((0.03, {}), (80.0, {})))
    found = advise(here, Goal(rounds=2), 0, 4.0, lambda _name, _spent: None)
    assert "fedavg, lr 80" in found.dropped
    assert found.chosen is not None


def test_a_budget_of_bytes_is_kept(here: Here) -> None:
    free = advise(here, Goal(rounds=4), 0, 8.0, lambda _name, _spent: None)
    assert free.chosen is not None
    most = free.chosen.points[-1].wire - 1
    here.played.clear()
    found = advise(here, Goal(rounds=4, max_bytes=most), 0, 8.0, lambda _name, _spent: None)
    assert found.chosen is not None
    assert found.reached
    assert found.chosen.points[-1].wire <= most


@pytest.mark.long
def test_interrupted_it_goes_on(tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(TASK)
    words = [
        "advise", "--task", str(tmp_path / "task.py"), "--clients", "2", "--rounds", "2", "--minutes", "60",
        "--split", "iid", "--out", str(tmp_path), "--format", "json",
    ]  # fmt: skip
    first = CliRunner().invoke(app, words)
    journal = (tmp_path / "trials.jsonl").read_text()
    assert first.exit_code == 0, first.output
    # As a kill in the middle of the last trial leaves it.
    lines = journal.splitlines()
    (tmp_path / "trials.jsonl").write_text("\n".join([*lines[:-1], lines[-1][:30]]))
    (tmp_path / "run.toml").unlink()
    assert CliRunner().invoke(app, words).exit_code == 0
    again = (tmp_path / "trials.jsonl").read_text().splitlines()
    assert again[: len(lines) - 1] == lines[:-1]
    played = [json.loads(line)[0] for line in again[1:]]
    assert json.loads(lines[-1])[0] in played
    assert len(set(played)) == len(played)
    assert RunSettings.model_validate(tomllib.loads((tmp_path / "run.toml").read_text())).name == "advised"
