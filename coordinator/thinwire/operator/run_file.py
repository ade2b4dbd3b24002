"""The settings of a run as a file for `thinwire run start --config`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from thinwire.protocol.settings import RunSettings


def chosen(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What differs from the defaults of a run, its name and its method always."""
    usual = RunSettings.model_validate({}).model_dump(mode="json")
    return {key: value for key, value in settings.items() if key in ("name", "method") or usual.get(key) != value}


def as_toml(settings: Mapping[str, Any]) -> str:
    """The file. `settings`: as the coordinator shows them, plain values by their names in kebab-case."""
    return "\n".join(_lines(chosen(settings), ())) + "\n"


def _lines(values: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[str]:
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping)}
    for key, value in values.items():
        if key not in tables and value is not None:
            yield f"{_key(key)} = {json.dumps(value)}"
    for key, value in tables.items():
        where = (*above, key)
        yield f"\n[{'.'.join(map(_key, where))}]"
        yield from _lines(value, where)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)
