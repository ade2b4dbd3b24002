"""The settings of a run as a person writes them: a file, and `--set KEY=VALUE`."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from thinwire.methods.registry import find_method
from thinwire.protocol.command_options import invalid
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.settings import RunSettings, kebab

from .options import fail


def run_settings(
    config: Path | None, assignments: Sequence[str], defaults: Mapping[str, Any] | None = None
) -> RunSettings:
    """The settings of a file, then of `--set`; what is wrong ends the process. `defaults`: below both."""
    given: dict[str, Any] = dict(defaults or {})
    if config is not None:
        given |= _read_toml(config)
    of_method = given.get("settings", {})
    if not isinstance(of_method, dict):
        fail("settings: write a table, [settings]", Exit.USAGE)
    fields = {name: kebab(name) for name in RunSettings.model_fields if name != "settings"}
    others: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            fail(f"--set {assignment}: write KEY=VALUE", Exit.USAGE)
        key = kebab(key.strip())
        (given if key in fields.values() else others)[key] = _value(text)
    method = str(given.get("method", "fedavg"))
    known = _method_keys(method)
    for key in (*others, *of_method):
        if kebab(key) not in known:
            fail(_unknown(key, method, list(fields.values()), known), Exit.USAGE)
    given["settings"] = of_method | others
    try:
        settings = RunSettings(**given)
        find_method(settings.method).settings(**settings.settings)
    except ValidationError as error:
        fail(invalid(error, fields), Exit.USAGE)
    return settings


def setting_name(name: str, field: FieldInfo) -> str:
    """How a person writes a setting: in kebab-case, or as its own alias says (`lambda`)."""
    return field.alias or kebab(name)


def _method_keys(method: str) -> list[str]:
    """The settings of this method in kebab-case; an unknown method ends the process."""
    try:
        return [setting_name(name, field) for name, field in find_method(method).settings.model_fields.items()]
    except KeyError as error:
        fail(str(error.args[0]), Exit.USAGE)


def _unknown(key: str, method: str, fields: Sequence[str], known: Sequence[str]) -> str:
    near = get_close_matches(kebab(key), [*known, *fields], 1)
    return (
        f"there is no setting {kebab(key)!r}{f'; did you mean {near[0]}?' if near else ''}\n"
        f"  settings of a run: {', '.join(fields)}\n"
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
