"""The page on capacity shows what was measured."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.capacity import COMMAND, GROWTH, INTAKE, OUTAGE, PAGE, growth_table, intake_table, outage_table
from benchmarks.marked import END, begin, fill, filled

ROOT = Path(__file__).parents[2]


def test_the_page_shows_what_was_measured() -> None:
    for command, table in (
        ("intake", intake_table(json.loads(INTAKE.read_text()))),
        ("outage", outage_table(json.loads(OUTAGE.read_text()))),
        ("growth", growth_table(json.loads(GROWTH.read_text()))),
    ):
        assert filled(ROOT / PAGE, COMMAND.format(command)) == table


def test_a_page_without_the_place_is_left_as_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text := f"{begin('one')}\n{END}\n")
    with pytest.raises(ValueError, match="two"):
        fill(page, "two", "text")
    assert page.read_text() == text
    fill(page, "one", "text")
    assert filled(page, "one") == "text"
