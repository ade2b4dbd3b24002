"""The folder is the registry: a method joins by existing, and importing what the coordinator needs brings no torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import thinwire.methods
from tests.methods.conftest import whole_methods
from thinwire.methods.client_half import client_half
from thinwire.methods.registry import find_method, method_ids, server_half


def test_every_folder_is_a_method_of_its_name() -> None:
    assert {"fedavg", "feddkd", "feddlr", "toy_relay"} <= set(whole_methods()) <= set(method_ids())
    for method_id in whole_methods():
        assert find_method(method_id).id == method_id
        assert server_half(method_id).__module__ == f"thinwire.methods.{method_id}.server"
        assert client_half(method_id).__module__ == f"thinwire.methods.{method_id}.client"


def test_an_unknown_method_is_told_which_there_are() -> None:
    with pytest.raises(KeyError, match="fedavg"):
        find_method("fedsgd")


def test_a_folder_without_a_method_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty_one").mkdir()
    (tmp_path / "empty_one" / "__init__.py").write_text("METHOD = 3\n")
    monkeypatch.setattr(thinwire.methods, "__path__", [*thinwire.methods.__path__, str(tmp_path)])
    with pytest.raises(KeyError, match="holds no METHOD"):
        find_method("empty_one")


def test_server_halves_and_the_simulation_import_no_torch() -> None:
    """With the toy's root on the path, as a process of the coordinator finds it."""
    code = (
        "import sys; import thinwire.methods.simulation\n"
        "from thinwire.methods.registry import method_ids, server_half\n"
        "for name in method_ids(): server_half(name)\n"
        "assert 'toy_relay' in method_ids(); assert 'torch' not in sys.modules"
    )
    root = Path(__file__).with_name("toy_root")
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
