"""The operator's commands against a running coordinator, and what each wrong use is told."""

from __future__ import annotations

import csv
import json
import pkgutil
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests import forked
from thinwire.edge_client.data import ClientInfo
from thinwire.edge_client.learner import Learner
from thinwire.edge_client.problems.built_in import find_problem
from thinwire.methods import registry
from thinwire.operator.access import TOKEN_VARIABLE, URL_VARIABLE
from thinwire.protocol.exit_codes import Exit

from .conftest import DEADLINE_S, ENVIRONMENT, Service, until

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One coordinator for all tests here."""
    with Service(tmp_path_factory.mktemp("service")) as made:
        made.serve()
        yield made


def _command(*words: str, module: str = "thinwire.operator", **environment: str) -> subprocess.CompletedProcess[str]:
    return forked.run(["-m", module, *words], environment=ENVIRONMENT | environment, timeout=DEADLINE_S)


@pytest.fixture
def thinwire(coordinator: Service) -> Run:
    """Runs the command beside this coordinator."""
    return lambda *words: _command(*words, THINWIRE_DATA_DIR=str(coordinator.data_dir))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_file({"weight": np.arange(6, dtype="f4").reshape(2, 3)}, path)
    return path


def test_invites_are_listed_and_voided(thinwire: Run) -> None:
    assert thinwire("client", "invite", "--group", "ward", "--uses", "3").returncode == Exit.OK
    (one,) = json.loads(thinwire("client", "invites", "--format", "json").stdout)["invites"]
    assert f"{one['invite']}  ward" in re.sub(" {2,}", "  ", thinwire("client", "invites").stdout)
    voided = thinwire("client", "void", one["invite"])
    assert (voided.returncode, voided.stdout) == (Exit.OK, f"the invite {one['invite']} is void\n")
    assert one["invite"] not in thinwire("client", "invites").stdout
    assert thinwire("client", "void", one["invite"]).returncode == Exit.REFUSED


def test_a_run_from_file_to_end(thinwire: Run, model: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text('name = "steered"\nrounds = 7\nmin-clients = 3\n\n[settings]\nlr = 0.5\n')
    started = thinwire("run", "start", "--config", str(config), "--model", str(model), "--set", "cohort=2",
                       "--set", "epochs=4", "--format", "json")  # fmt: skip
    assert started.returncode == Exit.OK, started.stderr
    view = json.loads(started.stdout)
    assert (view["name"], view["state"], view["rounds"], view["parameters"]) == ("steered", "pending", 7, 6)
    assert view["settings"]["settings"] == {"lr": 0.5, "epochs": 4}
    assert (view["settings"]["cohort"], view["settings"]["min-clients"]) == (2, 3)

    assert "steered" in thinwire("run", "list").stdout
    assert [run["name"] for run in json.loads(thinwire("run", "list", "--format", "json").stdout)["runs"]] == [
        "steered"
    ]
    assert "paused" in thinwire("run", "pause", "steered").stdout
    assert "pending" in thinwire("run", "resume", "steered").stdout
    assert "finished: stopped" in thinwire("run", "stop", "steered", "--open", "drop").stdout

    again = thinwire("run", "start", "--config", str(config), "--model", str(model))
    assert again.returncode == Exit.REFUSED
    assert "run-exists" in again.stderr
    late = thinwire("run", "pause", "steered")
    assert late.returncode == Exit.REFUSED
    assert "run-state" in late.stderr
    watched = thinwire("run", "watch", "steered")
    assert watched.returncode == Exit.FAILED
    assert "stopped" in watched.stderr


def test_what_a_finished_run_shows(coordinator: Service, thinwire: Run, digits_model: Path, tmp_path: Path) -> None:
    invited = thinwire("client", "invite", "--uses", "1", "--out", str(tmp_path / "invite"))
    assert invited.returncode == Exit.OK, invited.stderr
    assert (tmp_path / "invite").stat().st_mode & 0o777 == 0o600
    coordinator.join_digits(0, 1)
    started = thinwire("run", "start", "--model", str(digits_model), "--set", "name=whole", "--set", "rounds=2",
                       "--set", "cohort=1", "--set", "best=accuracy,-examples", "--watch")  # fmt: skip
    assert started.returncode == Exit.OK, started.stderr
    assert [line.split()[1] for line in started.stdout.splitlines() if line.startswith("round ")] == ["start", "1", "2"]
    until(coordinator.clients_have_ended)

    shown = thinwire("run", "show", "whole").stdout
    whole = json.loads(thinwire("run", "show", "whole", "--format", "json").stdout)
    rows = list(csv.DictReader(thinwire("run", "show", "whole", "--format", "csv").stdout.splitlines()))
    theirs = [row for row in whole["ledger"]["rows"] if row["client"]]
    assert [one["round"] for one in whole["metrics"]["exchanges"]] == [1, 2, 3]
    for direction in ("uplink", "downlink"):
        for part in ("payload", "framing"):
            name = f"{direction}_{part}_bytes"
            count = sum(row[name] for row in theirs)
            assert count == sum(int(row[name]) for row in rows if row["client"])
            answers = sum(row[name] for row in theirs if row["kind"] == "answer")
            assert f"{answers:,}".replace(",", " ") in shown
    assert "unaccounted" in shown
    (link,) = whole["ledger"]["links"]
    assert 0 < link["sent_bytes"] <= link["uplink_bytes"]

    pulled = thinwire("run", "pull", "whole", "--out", str(tmp_path / "final.safetensors"))
    assert pulled.returncode == Exit.OK
    assert load_file(tmp_path / "final.safetensors").keys() == load_file(digits_model).keys()
    _check_best(thinwire, whole["run"]["best"], shown, digits_model, tmp_path)
    assert "client-00" in thinwire("client", "list").stdout
    assert thinwire("client", "revoke", "client-00").returncode == Exit.OK
    (client,) = json.loads(thinwire("client", "list", "--format", "json").stdout)["clients"]
    assert client["revoked"] is True


def _check_best(thinwire: Run, best: list[dict[str, Any]], shown: str, digits_model: Path, folder: Path) -> None:
    """The pulled file has the score that is shown; what was always alike is best at first; another run begins there."""
    by_accuracy, by_examples = best
    assert (by_accuracy["score"], by_examples["score"], by_examples["round"]) == ("accuracy", "examples", 0)
    assert f"best by accuracy: {by_accuracy['value']:.4g}, after round {by_accuracy['round']}" in shown
    pulled = thinwire("run", "pull", "whole", "--best", "--out", str(folder / "best"))
    assert pulled.stdout.rstrip().endswith(f"after round {by_accuracy['round']}"), pulled.stderr
    learner = Learner(find_problem("digits"), ClientInfo("client-00", 0, 1))
    learner.load(load_file(folder / "best"))
    assert learner.evaluate()["accuracy"] == by_accuracy["value"]

    assert thinwire("run", "pull", "whole", "--best", "examples", "--out", str(folder / "first")).returncode == Exit.OK
    begun, first = load_file(folder / "first"), load_file(digits_model)
    assert all(np.array_equal(begun[name], array) for name, array in first.items())
    for words, code in ((("whole", "--best", "f1"), Exit.REFUSED), (("whole", "accuracy"), Exit.USAGE)):
        refused = thinwire("run", "pull", *words)
        assert refused.returncode == code
        assert "accuracy" in refused.stderr

    warm = thinwire("run", "start", "--model", "best:whole", "--set", "name=warm")
    assert warm.returncode == Exit.OK, warm.stderr
    assert thinwire("run", "pull", "warm", "--out", str(folder / "warm")).returncode == Exit.OK
    assert (folder / "warm").read_bytes() == (folder / "best").read_bytes()
    for wrong, code in (("best:nobody", Exit.REFUSED), ("best-whole", Exit.USAGE)):
        assert thinwire("run", "start", "--model", wrong, "--set", "name=cold").returncode == code
    assert thinwire("run", "stop", "warm").returncode == Exit.OK


def test_methods_are_listed_with_every_setting() -> None:
    listed = json.loads(_command("methods", "--format", "json").stdout)["methods"]
    # Not `method_ids()`: this process has toys of other tests on its path.
    folders = pkgutil.iter_modules([str(Path(registry.__file__).parent)])
    assert [method["id"] for method in listed] == sorted(folder.name for folder in folders if folder.ispkg)
    fedavg = next(method for method in listed if method["id"] == "fedavg")
    assert {"lr", "epochs", "proximal-mu"} <= {setting["name"] for setting in fedavg["settings"]}
    shown = _command("methods").stdout
    assert all(setting["name"] in shown for setting in fedavg["settings"])


def test_the_version() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*\n", _command("-V").stdout)


START = ("run", "start", "--model", "MODEL")
WRONG = {
    "unknown method": ((*START, "--set", "method=fedavgg"), Exit.USAGE, "there are fd_alu"),
    "unknown setting": ((*START, "--set", "learning-rate=3"), Exit.USAGE, "lr-decay"),
    "a value that cannot be": ((*START, "--set", "rounds=none"), Exit.USAGE, "rounds"),
    "a method's value that cannot be": ((*START, "--set", "lr=-1"), Exit.USAGE, "lr"),
    "a quorum above the cohort": ((*START, "--set", "quorum=9", "--set", "cohort=2"), Exit.USAGE, "quorum"),
    "no equals sign": ((*START, "--set", "rounds"), Exit.USAGE, "KEY=VALUE"),
    "a chain that there is not": ((*START, "--set", "uplink=zip"), Exit.USAGE, "zip"),
    "no model file": (("run", "start", "--model", "nowhere.safetensors"), Exit.USAGE, "nowhere.safetensors"),
    "not a model": (("run", "start", "--model", __file__), Exit.USAGE, "safetensors"),
    "no config file": ((*START, "--config", "nowhere.toml"), Exit.USAGE, "nowhere.toml"),
    "unknown run": (("run", "show", "nowhere"), Exit.REFUSED, "nowhere"),
    "unknown client": (("client", "revoke", "nobody"), Exit.REFUSED, "nobody"),
    "unknown command": (("run", "begin"), Exit.USAGE, "begin"),
    "unknown option": (("run", "list", "--colour"), Exit.USAGE, "--colour"),
    "unknown method in the demo": (("demo", "--method", "fedavgg"), Exit.USAGE, "there are fd_alu"),
    "beyond loopback in the clear": (("serve", "--host", "0.0.0.0"), Exit.USAGE, "insecure"),  # noqa: S104
    "a certificate without key": (("serve", "--certificate", __file__), Exit.USAGE, "key"),
    "no certificate at all": (("serve", "--certificate", __file__, "--key", __file__), Exit.LOCAL, "certificate"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_use_is_told_what_is_wrong(coordinator: Service, model: Path, tmp_path: Path, name: str) -> None:
    words, code, said = WRONG[name]
    folder = coordinator.data_dir if words[0] != "serve" else tmp_path / "other"
    done = _command(*(str(model) if word == "MODEL" else word for word in words), THINWIRE_DATA_DIR=str(folder))
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_setting_of_the_config_file_is_checked_too(thinwire: Run, model: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    for text, said in (("roundz = 3", "roundz"), ("[settings]\nlrr = 3", "lrr"), ("rounds = ", "run.toml")):
        config.write_text(text)
        done = thinwire("run", "start", "--config", str(config), "--model", str(model))
        assert done.returncode == Exit.USAGE
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_a_port_or_folder_in_use(coordinator: Service, tmp_path: Path) -> None:
    port = str(coordinator.port)
    done = _command("serve", "--port", port, "--data-dir", str(tmp_path / "other"))
    assert done.returncode == Exit.LOCAL
    assert f"{port} is in use" in done.stderr
    done = _command("serve", "--port", "0", "--data-dir", str(coordinator.data_dir))
    assert done.returncode == Exit.LOCAL
    assert "another coordinator" in done.stderr


def test_nobody_is_there(coordinator: Service, free_port: int, tmp_path: Path) -> None:
    done = _command("run", "list", "--url", f"http://127.0.0.1:{free_port}")
    assert done.returncode == Exit.UNREACHABLE
    assert str(free_port) in done.stderr
    done = _command("run", "list", "--data-dir", str(tmp_path))
    assert done.returncode == Exit.USAGE
    assert URL_VARIABLE in done.stderr


def test_the_token_decides(coordinator: Service, tmp_path: Path) -> None:
    environment = {URL_VARIABLE: coordinator.url}
    assert _command("run", "list", "--data-dir", str(tmp_path), **environment).returncode == Exit.OK
    refused = _command("client", "invite", "--data-dir", str(tmp_path), **environment)
    assert refused.returncode == Exit.REFUSED
    assert "token" in refused.stderr
    token = (coordinator.data_dir / "operator.token").read_text().strip()
    invited = _command("client", "invite", "--data-dir", str(tmp_path), **environment, **{TOKEN_VARIABLE: token})
    assert invited.returncode == Exit.OK
    assert len(invited.stdout.strip()) >= 22


def test_a_client_with_a_wrong_invite_or_no_coordinator(coordinator: Service, free_port: int, tmp_path: Path) -> None:
    invite = tmp_path / "invite"
    invite.write_text("not-an-invite\n")
    join = ("--invite-file", str(invite), "--task", "digits", "--data-dir", str(tmp_path / "client"))
    done = _command("join", coordinator.url, *join, module="thinwire.edge_client")
    assert done.returncode == Exit.REFUSED
    assert "invite" in done.stderr
    nobody = f"http://127.0.0.1:{free_port}"
    done = _command("join", nobody, *join, "--give-up-after", "2", module="thinwire.edge_client")
    assert done.returncode == Exit.UNREACHABLE
    assert "again" in done.stderr
