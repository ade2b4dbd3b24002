"""What the commands share: where the coordinator is, how a setting is written, how a command fails."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from thinwire.methods.registry import find_method
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.messages import RunView
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.settings import RunSettings, kebab

from .operate import NoAddressError, Operator, UnreachableError, find_token, find_url

DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar="THINWIRE_DATA_DIR", help="folder of a coordinator on this machine")
]
Url = Annotated[str | None, typer.Option("--url", help="of the coordinator; or set THINWIRE_URL")]
CaFile = Annotated[Path | None, typer.Option("--ca-file", help="certificates to trust instead of the system's")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="a run's name or id")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a setting of run or method")]
DATA_DIR = Path("thinwire-data")


class Format(StrEnum):
    """How a reading command answers."""

    TABLE = "table"
    JSON = "json"


AsFormat = Annotated[Format, typer.Option("--format", help="table or json")]


def fail(message: str, code: Exit) -> NoReturn:
    """Ends the process with a message for the person at the terminal."""
    print(f"thinwire: {message}", file=sys.stderr)
    raise typer.Exit(int(code))


def warn(view: RunView) -> None:
    """Tells a person what the run's method says about its settings."""
    for sentence in view.warnings or ():
        print(f"thinwire: warning: {sentence}", file=sys.stderr)


@contextmanager
def operator(data_dir: Path, url: str | None, ca_file: Path | None = None) -> Iterator[Operator]:
    """Requests to the coordinator; what goes wrong ends the process with its exit code."""
    try:
        client = Operator(find_url(url, data_dir), find_token(data_dir), ca_file=ca_file)
    except NoAddressError as error:
        fail(str(error), Exit.USAGE)
    try:
        yield client
    except UnreachableError as error:
        fail(str(error), Exit.UNREACHABLE)
    except ProblemError as error:
        fail(f"{error.reason}: {error.detail}", exit_of(error))
    except OSError as error:
        fail(str(error), Exit.LOCAL)
    except KeyboardInterrupt:
        fail("interrupted", Exit.INTERRUPTED)
    finally:
        client.close()


def exit_of(problem: ProblemError) -> Exit:
    """What a refusal means for the command that met it."""
    if problem.reason in ("run-invalid", "bad-message", "bad-request"):
        return Exit.USAGE
    return Exit.FAILED if problem.status >= 500 else Exit.REFUSED


def print_json(value: BaseModel | Mapping[str, Any] | Sequence[Any]) -> None:
    """On standard output, indented."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    print(json.dumps(plain, indent=2))


def run_settings(
    config: Path | None, assignments: Sequence[str], defaults: Mapping[str, Any] | None = None
) -> RunSettings:
    """The settings of a file, then of `--set`; what is wrong ends the process. `defaults`: below both."""
    given: dict[str, Any] = dict(defaults or {})
    if config is not None:
        given |= _read_toml(config)
    method_settings = dict(given.get("settings", {}))
    fields = run_keys()
    others: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            fail(f"--set {assignment}: write KEY=VALUE", Exit.USAGE)
        key = kebab(key.strip())
        (given if key in fields else others)[key] = _value(text)
    known = method_keys(str(given.get("method", "fedavg")))
    for key in (*others, *method_settings):
        if kebab(key) not in known:
            fail(_unknown(key, given.get("method", "fedavg"), fields, known), Exit.USAGE)
    given["settings"] = method_settings | others
    try:
        settings = RunSettings(**given)
        find_method(settings.method).settings(**settings.settings)
    except ValidationError as error:
        fail(invalid(error), Exit.USAGE)
    return settings


def run_keys() -> list[str]:
    """The run's settings in kebab-case, without the method's own."""
    return [kebab(name) for name in RunSettings.model_fields if name != "settings"]


def method_keys(method: str) -> list[str]:
    """The settings of this method in kebab-case; an unknown method ends the process."""
    try:
        return [setting_name(name, field) for name, field in find_method(method).settings.model_fields.items()]
    except KeyError as error:
        fail(str(error.args[0]), Exit.USAGE)


def setting_name(name: str, field: FieldInfo) -> str:
    """How a person writes a setting: in kebab-case, or as its own alias says (`lambda`)."""
    return field.alias or kebab(name)


def invalid(error: ValidationError) -> str:
    """What a person has to change, one line per setting."""
    lines = []
    for item in error.errors(include_url=False, include_context=False):
        where = ".".join(kebab(str(step)) for step in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        lines.append(f"{where}: {message} (given: {item['input']!r})" if where else message)
    return "\n  ".join(lines)


def _unknown(key: str, method: str, fields: Sequence[str], known: Sequence[str]) -> str:
    return (
        f"there is no setting {kebab(key)!r}.\n  settings of a run: {', '.join(fields)}\n"
        f"  settings of {method}: {', '.join(known) or 'none'}"
    )


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        fail(f"{path}: {error.strerror}", Exit.USAGE)
    except tomllib.TOMLDecodeError as error:
        fail(f"{path}: {error}", Exit.USAGE)


def _value(text: str) -> Any:
    """Numbers, true, false, null, lists and tables as JSON writes them; anything else is a word."""
    try:
        return json.loads(text)
    except ValueError:
        return text
