"""What the README shows over two terminals works as it stands there."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from thinwire.protocol.exit_codes import Exit


def _commands(root: Path, port: int) -> list[list[str]]:
    """Those of the section, with this interpreter's folder and a free port."""
    section = (root / "README.md").read_text().split("## By hand, over two terminals")[1].split("\n## ")[0]
    blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```", section, re.MULTILINE | re.DOTALL))
    lines = [line.replace("8080", str(port)) for line in blocks.splitlines() if line.strip()]
    folder = Path(sys.executable).parent
    return [[str(folder / Path(words[0]).name), *words[1:]] for words in map(shlex.split, lines)]


def test_the_commands_of_the_readme_train_a_model(root: Path, free_port: int, tmp_path: Path) -> None:
    serve, *others = _commands(root, free_port)
    assert len(others) == 6
    environment = {**os.environ, "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    for name in (
        "XDG_DATA_HOME",
        "XDG_CONFIG_HOME",
        "THINWIRE_DATA_DIR",
        "THINWIRE_URL",
        "THINWIRE_TOKEN",
        "THINWIRE_INVITE",
    ):
        environment.pop(name, None)
    coordinator = subprocess.Popen(
        serve, cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    try:
        assert coordinator.stdout is not None
        assert str(free_port) in coordinator.stdout.readline()
        shown = ""
        for command in others:
            done = subprocess.run(
                command,
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=120,
            )
            assert done.returncode == Exit.OK, (command, done.stdout, done.stderr)
            shown += done.stdout
    finally:
        coordinator.send_signal(signal.SIGINT)
        coordinator.communicate(timeout=30)
    assert coordinator.returncode == Exit.INTERRUPTED
    accuracies = [float(found) for found in re.findall(r"^ *(?:start|[1-3]) +(\d\.\d{4}) ", shown, re.MULTILINE)]
    assert len(accuracies) == 4, shown
    assert accuracies[0] < 0.2
    assert accuracies[-1] > 0.85, "what the README shows learns"
    first, final = (load_file(tmp_path / name) for name in ("first.safetensors", "final.safetensors"))
    assert first.keys() == final.keys()
    assert any(np.any(first[name] != final[name]) for name in first)
