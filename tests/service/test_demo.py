"""`thinwire demo` from the command line to the report, and what ends it early."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from thinwire.operator.processes import Child
from thinwire.protocol.exit_codes import Exit

from .conftest import DEADLINE_S, ENVIRONMENT, interrupt, until

DEMO = [sys.executable, "-m", "thinwire.operator", "demo", "--clients", "3"]


NOBODY = "http://127.0.0.1:9"


def _running(folder: Path) -> list[str]:
    """The command lines of processes of this demo."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"{folder}/" in line and "thinwire." in line:
            found.append(line)
    return found


def test_a_report_of_real_processes(tmp_path: Path) -> None:
    report, folder = tmp_path / "report", tmp_path / "data"
    # A proxy that nobody serves: what goes over the loopback does not ask it.
    done = subprocess.run(
        [*DEMO, "--rounds", "2", "--set", "lr=0.05", "--data-dir", str(folder), "--report", str(report)],
        env={**ENVIRONMENT, "http_proxy": NOBODY, "HTTP_PROXY": NOBODY, "no_proxy": ""},
        capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.returncode == Exit.OK, done.stdout + done.stderr
    lines = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("round ")]
    assert lines == ["start", "1", "2"]
    assert not _running(folder)

    figures = json.loads((report / "rounds.json").read_text())
    summary, rounds = figures["summary"], figures["rounds"]
    assert [one["round"] for one in rounds] == [0, 1, 2]
    assert figures["run"]["settings"]["settings"] == {"lr": 0.05}
    assert all(0 <= one["accuracy"] <= 1 for one in rounds)
    assert rounds[-1]["loss"] < rounds[0]["loss"]
    assert summary["unaccounted_bytes"] == 0
    assert summary["uplink_bytes"] == sum(one["uplink_bytes"] for one in rounds)
    assert rounds[-1]["total_bytes"] == summary["uplink_bytes"] + summary["downlink_bytes"]

    assert (report / "accuracy-vs-bytes.png").read_bytes().startswith(b"\x89PNG")
    first, last = load_file(folder / "demo-1" / "first-model.safetensors"), load_file(report / "model.safetensors")
    assert {name: array.shape for name, array in first.items()} == {name: array.shape for name, array in last.items()}
    assert any(np.any(first[name] != last[name]) for name in first)
    page = (report / "report.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:)""", page), "a report asks for nothing else"
    assert "client-02" in page


@pytest.mark.long
def test_an_answer_in_json(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--rounds", "1", "--format", "json", "--report", str(tmp_path / "report")],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.returncode == Exit.OK, done.stderr
    answer = json.loads(done.stdout)
    assert (answer["method"], answer["clients"], answer["rounds"]) == ("fedavg", 3, 1)
    assert Path(answer["report"], "rounds.json").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_interrupted_no_process_is_left(tmp_path: Path, number: int) -> None:
    folder, log = tmp_path / "data", tmp_path / "demo.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*DEMO, "--rounds", "1000", "--data-dir", str(folder), "--report", str(tmp_path / "report")],
            env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT,
            # A shell's background job ignores SIGINT, and so would its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
    child = Child("demo", process, log)
    until(lambda: "round 1 " in log.read_text() or process.poll() is not None)
    assert len(_running(folder)) >= 4
    assert interrupt(child, number) == Exit.INTERRUPTED, log.read_text()
    assert not _running(folder)
    assert "interrupted" in log.read_text()


def test_a_task_that_fails_shows_its_own_traceback(tmp_path: Path) -> None:
    task = tmp_path / "task.py"
    task.write_text(
        "import torch\ndef model(): return torch.nn.Linear(3, 2)\ndef data(client): raise KeyError('sensor')\n"
    )
    done = subprocess.run(
        [*DEMO, "--task", str(task), "--data-dir", str(tmp_path / "data"), "--report", str(tmp_path / "report")],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=DEADLINE_S,
    )  # fmt: skip
    assert done.returncode == Exit.USAGE
    assert "task.py" in done.stderr
    assert "KeyError: 'sensor'" in done.stderr
    assert not _running(tmp_path / "data")
