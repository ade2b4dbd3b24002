"""The page for beginners, played as it stands there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests import forked
from thinwire.operator.processes import Running
from thinwire.protocol.exit_codes import Exit

from .conftest import ENVIRONMENT

MODULES = {"thinwire": "thinwire.operator", "thinwire-client": "thinwire.edge_client"}
OWN = ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "THINWIRE_DATA_DIR", "THINWIRE_URL", "THINWIRE_TOKEN", "THINWIRE_INVITE")


def _lines(root: Path) -> list[str]:
    """The commands of steps 2 to 5."""
    text = (root / "docs" / "getting-started.md").read_text()
    steps = text.split("## 2. ")[1].split("## Then")[0]
    return "".join(re.findall(r"^```sh\n(.*?)^```", steps, re.MULTILINE | re.DOTALL)).splitlines()


@pytest.mark.long
def test_its_commands_train_a_model(root: Path, free_port: int, tmp_path: Path) -> None:
    environment = {name: value for name, value in ENVIRONMENT.items() if name not in OWN} | {"HOME": str(tmp_path)}
    running: list[Running] = []
    log = tmp_path / "log"
    with log.open("wb") as output:
        try:
            for line in _lines(root):
                words = shlex.split(line.replace("8080", str(free_port)))
                behind = words[-1] == "&" or words[1] == "serve"
                command = ["-m", MODULES[words[0]], *words[1 : -1 if words[-1] == "&" else None]]
                process = forked.start(command, output.fileno(), environment=environment, folder=tmp_path)
                if not behind:
                    assert process.wait(120) == Exit.OK, log.read_text()
                    continue
                running.append(process)
                while words[1] == "serve" and "listens at" not in log.read_text():
                    assert process.poll() is None, log.read_text()
        finally:
            for process in reversed(running):
                process.terminate()
            ends = [process.wait(60) for process in reversed(running)]
    assert ends == [Exit.INTERRUPTED] * 4
    shown = log.read_text()
    assert "Traceback" not in shown
    accuracies = [
        float(found) for found in re.findall(r"^round (?:start|\d+)  accuracy (\d\.\d+)", shown, re.MULTILINE)
    ]
    assert accuracies[-1] > accuracies[0]
    assert accuracies[-1] > 0.9
    first, final = (load_file(tmp_path / f"{name}.safetensors") for name in ("first", "final"))
    assert first.keys() == final.keys()
