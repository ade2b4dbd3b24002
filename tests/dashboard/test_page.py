"""The page is self-contained and its policy lets it be nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from thinwire.coordinator.dashboard.page import PAGE, POLICY

TEXT = PAGE.decode()


def test_it_loads_nothing_from_elsewhere() -> None:
    addresses = re.findall(r"""(?:src|href|action)\s*=\s*["']([^"']*)""", TEXT) + re.findall(r"url\(([^)]*)\)", TEXT)
    assert addresses
    assert not [address for address in addresses if "//" in address or address.startswith("/")]
    # The one absolute address is the name of SVG, which nobody asks for.
    assert set(re.findall(r"https?://[^\"'\s]+", TEXT)) == {"http://www.w3.org/2000/svg"}
    assert "default-src 'none'" in POLICY
    assert "connect-src 'self'" in POLICY


def test_what_comes_from_the_coordinator_is_never_markup() -> None:
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", TEXT)


def test_every_element_that_the_script_names_is_there() -> None:
    named = set(re.findall(r'\bat\("([a-z]+)"\)', TEXT))
    assert named
    assert named <= set(re.findall(r'\bid="([a-z]+)"', TEXT))


def test_the_script_is_a_script(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node, which checks the script, is not on this machine")
    (script,) = re.findall(r"<script>(.*?)</script>", TEXT, re.DOTALL)
    path = tmp_path / "page.js"
    path.write_text(script)
    subprocess.run([node, "--check", str(path)], check=True)
