"""Options that are made of settings: one place says what a setting is called, may be and means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import typer
from pydantic import Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from typer.testing import CliRunner

from thinwire.protocol.command_options import Written, fail, invalid, option_name, with_options
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.settings import Settings


class _Served(Settings):
    place: Annotated[Path, Written("--place", "-p", envvar="OF_A_TEST")] = Field(Path("here"), description="a folder")
    port: int = Field(80, ge=0, le=65535, description="0: a free one")
    idle_s: float = Field(60.0, gt=0, description="seconds without a byte")
    most: int | None = Field(None, ge=1, description="default: no limit")
    how: Literal["fast", "safe"] = Field("fast", description="fast or safe")
    open_: bool = Field(False, description="to everybody")
    own: bool = Field(True, description="made here")

    @model_validator(mode="after")
    def _together(self) -> _Served:
        if self.how == "safe" and self.open_:
            raise ValueError("what is safe is not open")
        return self


@dataclass(frozen=True)
class _Fleet:
    clients: Annotated[int, Field(description="how many", ge=1)]
    allow: Annotated[tuple[str, ...], Field(description="consent")] = ()


def _run(*words: str, **environment: str) -> tuple[Any, dict[str, Any]]:
    app, seen = typer.Typer(), dict[str, Any]()

    def command(name: Annotated[str, typer.Argument()], served: _Served, fleet: _Fleet) -> None:
        """Does nothing."""
        seen.update(name=name, served=served, fleet=fleet)

    app.command()(with_options(command, program="made", option=typer.Option))
    return CliRunner(env=environment).invoke(app, [*words]), seen


def test_each_field_is_an_option_with_the_models_default() -> None:
    done, seen = _run("me", "--clients", "3")
    assert done.exit_code == 0, done.output
    assert (seen["name"], seen["served"], seen["fleet"]) == ("me", _Served(), _Fleet(3))


def test_what_is_written_reaches_the_models() -> None:
    places = ("-p", "there", "--port", "0", "--idle", "2.5", "--most", "7", "--how", "safe", "--no-own")
    _, seen = _run("me", *places, "--clients", "1", "--allow", "a", "--allow", "b")
    assert seen["served"] == _Served(place=Path("there"), port=0, idle_s=2.5, most=7, how="safe", own=False)
    assert seen["fleet"] == _Fleet(1, ("a", "b"))
    _, seen = _run("me", "--clients", "1", "--open", OF_A_TEST="elsewhere")
    assert (seen["served"].place, seen["served"].open_) == (Path("elsewhere"), True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "70000"], "--port"),
        (["--idle", "0"], "--idle: Input should be greater than 0"),
        (["--how", "slow"], "--how: Input should be 'fast' or 'safe'"),
        (["--how", "safe", "--open"], "made: what is safe is not open"),
        (["--most", "many"], "--most"),
    ],
)
def test_what_cannot_be_is_told_by_the_options_name(words: list[str], said: str) -> None:
    done, seen = _run("me", "--clients", "1", *words)
    assert (done.exit_code, seen) == (Exit.USAGE, {})
    assert said in done.output


def test_help_says_what_the_model_says() -> None:
    done, _ = _run("--help", COLUMNS="200")
    for field in (*_Served.model_fields.values(), *_Fleet.__pydantic_fields__.values()):  # type: ignore[attr-defined]
        assert str(field.description) in done.output
    assert "--no-own" in done.output
    assert "--no-open" not in done.output
    assert _run("me")[0].exit_code == Exit.USAGE, "what has no default is required"


def test_the_unit_of_seconds_is_left_out_of_a_name() -> None:
    assert option_name("idle_s", _Served.model_fields["idle_s"]) == "--idle"
    assert option_name("place", _Served.model_fields["place"]) == "--place"


def test_an_unknown_setting_is_told_the_nearest_one() -> None:
    with pytest.raises(ValidationError) as found:
        _Served.model_validate({"idel-s": 3, "port": -1})
    lines = invalid(found.value, {name: name.replace("_", "-") for name in _Served.model_fields}).splitlines()
    assert [line.strip().partition(" (")[0] for line in lines] == [
        "port: Input should be greater than or equal to 0",
        "idel-s: there is no such setting; did you mean idle-s?",
    ]


def test_a_failure_is_one_line_and_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        fail("made", "it is so", Exit.LOCAL)
    assert ended.value.code == Exit.LOCAL
    assert capsys.readouterr().err == "made: it is so\n"
