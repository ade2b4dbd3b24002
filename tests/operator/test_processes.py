"""Processes that a command starts end with it, whatever they do."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from thinwire.operator import processes
from thinwire.operator.processes import ChildFailedError, Children, finish

STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('ready', flush=True)\nsignal.pause()\n"


@pytest.fixture
def scripts(tmp_path: Path) -> dict[str, str]:
    """Modules that a child can run, and the environment in which it finds them."""
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    (tmp_path / "waiting.py").write_text("import signal\nprint('ready', flush=True)\nsignal.pause()\n")
    (tmp_path / "failing.py").write_text("print('line\\n' * 40 + 'the reason')\nraise SystemExit(3)\n")
    (tmp_path / "fine.py").write_text("")
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def _await_ready(children: Children, log: Path) -> None:
    while "ready" not in log.read_text():
        children.check()


def test_on_leaving_all_have_ended(scripts: dict[str, str], tmp_path: Path) -> None:
    with Children(tmp_path / "logs", grace_s=0.5) as children:
        waiting = children.start("waiting", "waiting", [], scripts)
        stubborn = children.start("stubborn", "stubborn", [], scripts)
        for child in (waiting, stubborn):
            _await_ready(children, child.log)
    assert waiting.process.returncode == -signal.SIGTERM
    assert stubborn.process.returncode == -signal.SIGKILL


def test_on_an_error_too(scripts: dict[str, str], tmp_path: Path) -> None:
    children = Children(tmp_path / "logs")
    waiting = children.__enter__().start("waiting", "waiting", [], scripts)
    children.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert waiting.process.returncode is not None


def test_a_failure_shows_the_end_of_the_log(scripts: dict[str, str], tmp_path: Path) -> None:
    with Children(tmp_path / "logs") as children:
        failing = children.start("failing", "failing", [], scripts)
        with pytest.raises(ChildFailedError) as failed:
            finish(failing, 30)
        assert failed.value.code == 3
        assert "the reason" in str(failed.value)
        assert len(str(failed.value).splitlines()) <= processes.TAIL_LINES + 1
        with pytest.raises(ChildFailedError):
            children.check()


def test_one_that_ends_well_is_no_failure(scripts: dict[str, str], tmp_path: Path) -> None:
    with Children(tmp_path / "logs") as children:
        fine = children.start("fine", "fine", [], scripts)
        finish(fine, 30)
        children.check()


def test_one_that_does_not_end_is(scripts: dict[str, str], tmp_path: Path) -> None:
    with Children(tmp_path / "logs") as children:
        waiting = children.start("waiting", "waiting", [], scripts)
        with pytest.raises(ChildFailedError) as failed:
            finish(waiting, 0.2)
        assert failed.value.code is None
