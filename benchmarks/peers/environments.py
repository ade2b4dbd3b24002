"""A virtual environment per peer, made once and kept in a folder that the user names."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

PACKAGES: Final = {"flower": "flwr", "flower-simulation": "flwr[simulation]", "nvflare": "nvflare"}


def default_cache() -> Path:
    """The system's cache folder for this user."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "thinwire-peers"


def environment(peer: str, cache: Path, with_ours: Path | None = None) -> Path:
    """The environment's `bin`; installs the newest release where there is none yet. `with_ours`: a folder of packages
    that it finds where it has none of its own.

    Raises: `subprocess.CalledProcessError`.
    """
    place = (cache / peer).resolve()
    if not (place / "bin" / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        install = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet", PACKAGES[peer], "numpy"]
        subprocess.run(install, check=True)
        if with_ours is not None:
            (packages,) = place.glob("lib/python*/site-packages")
            (packages / "ours.pth").write_text(f"{with_ours}\n")
        (place / "bin" / "installed").touch()
    return place / "bin"


def version(peer: str, binaries: Path) -> str:
    """`flwr 1.42.0`."""
    package = PACKAGES[peer].partition("[")[0]
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    found = subprocess.run([str(binaries / "python"), "-c", code], check=True, capture_output=True, text=True)
    return f"{package} {found.stdout.strip()}"
