"""Every method's page says and shows what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.marked import filled
from benchmarks.results import COMMAND, EXPERIMENTS, METHODS, OF_SEVERAL, ON_PAGE, find, measured, on_method_page

ROOT = Path(__file__).parents[2]
UNMEASURED = {"seed_scalars"}
"""Methods without an experiment of their own: their pages say what was tried."""


def test_every_page_of_a_method_shows_an_experiment() -> None:
    assert {*ON_PAGE, OF_SEVERAL} == set(EXPERIMENTS)
    assert set(ON_PAGE.values()) | UNMEASURED == {path.stem for path in (ROOT / METHODS).glob("*.md")}


@pytest.mark.parametrize("name", ON_PAGE)
def test_a_method_page_shows_what_was_measured(name: str) -> None:
    stored = {experiment.id: store for experiment, store, _ in measured()}
    text = on_method_page(find(name), stored[name])
    assert filled(ROOT / METHODS / f"{ON_PAGE[name]}.md", COMMAND) == text
    assert "![" in text
