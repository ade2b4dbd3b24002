"""Settings are kebab-case for people, and a mistake in them is an error."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from pydantic import ValidationError

from thinwire.methods.settings import MethodSettings
from thinwire.protocol.settings import RunSettings


def _read(text: str) -> RunSettings:
    return RunSettings.model_validate(tomllib.loads(text))


def test_a_file_in_kebab_case_is_read() -> None:
    settings = _read('name = "night"\nrounds = 3\nover-select = 1.5\n[settings]\nlr = 0.1\n[chains."*"]\nup = "zstd"\n')
    assert (settings.name, settings.rounds, settings.over_select) == ("night", 3, 1.5)
    assert settings.settings == {"lr": 0.1}
    assert isinstance(settings.chains, dict)
    assert settings.chains["*"].up == "zstd"


def test_what_is_written_is_kebab_case_and_reads_back() -> None:
    settings = RunSettings(min_clients=2, over_select=2.0, chains={"train": {"down": ""}})  # type: ignore[dict-item]
    plain = settings.model_dump(mode="json")
    assert "_" not in "".join(plain)
    assert RunSettings.model_validate(plain) == settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"round": 3},
        {"over-select": 1.5, "over_select": 1.5},
        {"rounds": 0},
        {"seed": -1},
        {"seed": 1 << 63},
        {"name": "two words"},
        {"name": "../run"},
        {"name": "run\n"},
        {"over-select": 0.5},
        {"deadline-s": 0},
        {"max-value": float("inf")},
        {"cohort": 4, "quorum": 5},
        {"chains": "best"},
        {"chains": {"train": {"sideways": "zstd"}}},
    ],
)
def test_a_mistake_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RunSettings.model_validate(wrong)


def test_quorum_and_presence_default_to_the_cohort() -> None:
    assert (RunSettings(cohort=5).needed, RunSettings(cohort=5).present) == (5, 5)
    assert (RunSettings(cohort=5, quorum=2).needed, RunSettings(cohort=5, min_clients=9).present) == (2, 9)


def test_settings_of_methods_follow_the_same_rules() -> None:
    class Toy(MethodSettings):
        local_epochs: int = 1

    assert Toy.model_validate({"local-epochs": 2}).model_dump() == {"local-epochs": 2}
    with pytest.raises(ValidationError):
        Toy.model_validate({"epochs": 2})
