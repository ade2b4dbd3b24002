"""`thinwire compare`: several runs, one fleet, one table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from thinwire.operator.cli.run_settings import run_settings
from thinwire.protocol.exit_codes import Exit

from .conftest import DEADLINE_S, ENVIRONMENT

COMPARE = [sys.executable, "-m", "thinwire.operator", "compare", "--clients", "2", "--rounds", "2"]


def test_runs_share_data_clients_and_first_model(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *COMPARE, "--methods", "fd_alu,fedavg:plain,fedavg", "--report", str(tmp_path),
            "--set", "fedavg.lr=0.05", "--set", "fedavg.uplink=quantise(4), entropy",
        ],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.returncode == Exit.OK, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("run ")] == [
        "run fd_alu: fd_alu",
        "run fedavg-plain: fedavg",
        "run fedavg: fedavg",
    ]

    facts = json.loads((tmp_path / "comparison.json").read_text())
    own, plain, coded = facts["runs"]
    assert (plain["run"], coded["run"]) == ("fedavg-plain", "fedavg")
    assert facts["unaccounted_bytes"] == 0
    assert run_settings(tmp_path / "fedavg.toml", []).settings == {"error-feedback": True, "lr": 0.05}
    # The same first model on the same examples, and 32 bits a parameter without codecs.
    assert facts["rounds"]["fedavg-plain"][0]["accuracy"] == facts["rounds"]["fedavg"][0]["accuracy"]
    assert 32 < plain["bits_per_parameter_up"] < 34
    assert coded["uplink_bytes"] < plain["uplink_bytes"] / 4
    best = max(one["accuracy"] for one in facts["rounds"]["fedavg-plain"][1:])
    assert facts["target_accuracy"] == 0.98 * best
    assert plain["bytes_to_target"] is not None
    assert (facts["baseline"], plain["saved_share"]) == ("fedavg-plain", 0)
    # Accuracies of models that stay on the clients are marked wherever they stand, and explained.
    assert [run["measured"] for run in (own, plain)] == ["clients' own models", "global model"]
    assert own["personal_accuracy"] is not None
    page = (tmp_path / "report.html").read_text()
    for text in (done.stdout, page):
        assert f"{own['accuracy']:.4f} *" in text
        assert "no global model" in text
    assert (tmp_path / "accuracy-vs-bytes.png").read_bytes().startswith(b"\x89PNG")
    assert "fedavg-plain" in page


def test_a_run_that_cannot_be_leaves_the_others_as_they_are(tmp_path: Path) -> None:
    """One is refused by the coordinator, one ends its clients, which have not consented."""
    done = subprocess.run(
        [
            *COMPARE, "--methods", "fd_alu,fedavg,fedavg:plain", "--rounds", "1", "--report", str(tmp_path),
            "--set", "fd_alu.knowledge=sample", "--set", "fedavg.uplink=zip",
        ],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.returncode == Exit.FAILED, done.stdout + done.stderr
    assert "not completed: fd_alu, fedavg\n" in done.stderr
    assert "Traceback" not in done.stderr
    facts = json.loads((tmp_path / "comparison.json").read_text())
    assert [(run["run"], run["outcome"]) for run in facts["runs"]] == [
        ("fd_alu", "stopped"),
        ("fedavg-plain", "completed"),
    ]
    assert "sample-knowledge" in facts["runs"][0]["reason"]
    (refused,) = facts["refused"]
    assert refused["run"] == "fedavg"
    assert "zip" in refused["reason"]
    for text in (done.stdout, (tmp_path / "report.html").read_text()):
        assert "fedavg (refused)" in text
        assert "sample-knowledge" in text
    assert facts["unaccounted_bytes"] == 0


def test_a_report_that_cannot_be_written_is_told_before_anything_begins(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for command in ("compare", "demo"):
        done = subprocess.run(
            [sys.executable, "-m", "thinwire.operator", command, "--report", str(tmp_path / "file" / "report")],
            env=ENVIRONMENT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == Exit.LOCAL
        assert str(tmp_path / "file") in done.stderr
        assert "coordinator at" not in done.stdout


def test_wrong_usage_is_told() -> None:
    for arguments, named in (
        (["--methods", "fedavg,fedavg"], "twice"),
        (["--methods", "fedsgd"], "fedsgd"),
        (["--set", "nothing.lr=1"], "nothing"),
    ):
        done = subprocess.run([*COMPARE, *arguments], env=ENVIRONMENT, capture_output=True, text=True, timeout=60)
        assert done.returncode == Exit.USAGE
        assert named in done.stderr
