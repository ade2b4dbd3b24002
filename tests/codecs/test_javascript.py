"""The text of `codecs/README.md` is enough: a decoder written from it in another language passes the golden vectors."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def test_masks_and_a_quantised_update_decode_in_javascript() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.lstrip("v").partition(".")[0]) < 20:
        pytest.skip(f"node {version.strip()} is older than 20")
    names = ["entropy-bits", "entropy-arrays", "entropy-gaps", "entropy-counts", "quantised-update", "adaptive-update"]
    done = subprocess.run(
        [node, str(HERE / "js" / "decode.mjs"), str(HERE / "vectors"), *names],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stderr == ""
    assert done.stdout.split() == names
