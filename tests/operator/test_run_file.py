"""A run's settings as a file are the same settings, read back."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from thinwire.operator.cli.compare import SUITED
from thinwire.operator.cli.run_settings import run_settings
from thinwire.operator.run_file import as_toml
from thinwire.protocol.settings import RunSettings

CASES: dict[str, dict[str, Any]] = {
    **{method: {"method": method, **given} for method, given in SUITED.items()},
    "defaults": {},
    "plain": {"chains": "plain", "seed": 2**62, "max_value": 1e-05, "evaluate": False},
    "words": {"uplink": 'top_k(0.05), "quoted" \\ \t é', "settings": {"lr-schedule": "cosine"}},
    "by kind": {"chains": {"*": {"up": "zstd"}, "train": {"down": "", "private": None}}},
    "a list": {"method": "progfed", "settings": {"schedule": [1, 2, 3]}},
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_written_is_what_is_read(name: str, tmp_path: Path) -> None:
    settings = RunSettings.model_validate({"name": "night", **CASES[name]})
    path = tmp_path / "run.toml"
    path.write_text(as_toml(settings.model_dump(mode="json")))
    assert run_settings(path, []) == settings


def test_the_file_in_the_documentation_is_one(root: Path, tmp_path: Path) -> None:
    (text,) = re.findall(r"^```toml\n(.*?)^```", (root / "docs" / "commands.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "run.toml").write_text(text)
    settings = run_settings(tmp_path / "run.toml", [])
    assert (settings.name, settings.settings) == ("night", {"epochs": 2, "lr": 0.05})
