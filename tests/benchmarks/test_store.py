"""The file of an experiment: a line for each cell, read back as it was written."""

from __future__ import annotations

import json
from difflib import ndiff
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cells import RESULTS
from benchmarks.store import written

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
held = st.dictionaries(st.text(), st.dictionaries(st.text(), values) | st.lists(values))


@given(held)
def test_what_was_written_is_read_back_in_its_order(found: dict[str, Any]) -> None:
    again = json.loads(written(found))
    assert again == found
    assert [list(entries) for entries in again.values()] == [list(entries) for entries in found.values()]


@given(st.dictionaries(st.text(), values, min_size=1), st.text(), values)
def test_a_further_cell_is_a_difference_of_one_line(cells: dict[str, Any], key: str, value: Any) -> None:
    more = {**cells, key: value} if key not in cells else {**cells, "".join([*cells, "+"]): value}
    before, after = (written({"cells": each, "order": ["one"]}).split("\n") for each in (cells, more))
    changed = [line for line in ndiff(before, after) if line[0] in "+-"]
    assert len(changed) == 1
    assert changed[0].startswith("+ ,")


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_the_stored_files_are_written_so(path: Path) -> None:
    text = path.read_text()
    assert written(json.loads(text)) == text
