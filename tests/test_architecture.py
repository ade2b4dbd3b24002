"""The page on architecture names every room there is, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOTS = ("codecs", "protocol", "coordinator", "edge_client")
LONGEST = 300


def packages(root: Path) -> set[str]:
    """Every folder of product code with modules in it."""
    return {
        str(path.parent.relative_to(root))
        for name in ROOTS
        for path in (root / name / "thinwire").rglob("*.py")
        if path.parent.name != "versions"
    }


def test_the_tree_is_the_folders(root: Path) -> None:
    (tree,) = re.findall(r"```tree\n(.*?)```", (root / "docs" / "architecture.md").read_text(), re.DOTALL)
    named = [line.split()[0] for line in tree.splitlines()]
    assert len(named) == len(set(named))
    assert set(named) == packages(root)
    assert all(len(line.split()) > 2 for line in tree.splitlines())


def test_no_file_of_product_code_is_long(root: Path) -> None:
    long = {
        str(path.relative_to(root)): lines
        for name in ROOTS
        for path in (root / name / "thinwire").rglob("*.py")
        if (lines := len(path.read_text().splitlines())) > LONGEST
    }
    assert long == {}
