"""The pages of this repository, wherever they stand in it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
_WHERE: Final = ("*.md", "docs/**/*.md", "deploy/**/*.md", "codecs/*.md", "protocol/*.md")


def pages() -> list[Path]:
    """All of them, in the order of their names."""
    return sorted({path for pattern in _WHERE for path in ROOT.glob(pattern)})
