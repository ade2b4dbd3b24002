"""The page on devices shows what was measured."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.edge import COMMAND, FOUND, PAGE, installed, text
from benchmarks.marked import filled

ROOT = Path(__file__).parents[2]


def test_the_page_shows_what_was_measured() -> None:
    assert filled(ROOT / PAGE, COMMAND) == text(json.loads(FOUND.read_text()))


def test_what_is_counted_as_installed_is_what_the_extra_brings() -> None:
    names = set(installed())
    assert {"thinwire", "torch", "numpy", "httpcore", "pydantic", "sympy"} <= names
    assert not {"fastapi", "sqlalchemy", "scikit-learn", "pytest"} & names
