"""The document of the HTTP interface in the repository: `python -m tests.coordinator.openapi` writes it anew."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from thinwire.coordinator.app import create_app
from thinwire.coordinator.settings import ServeSettings

FILE = Path(__file__).resolve().parents[2] / "protocol" / "openapi.json"


def current() -> dict[str, Any]:
    """Of the application as it is now."""
    with tempfile.TemporaryDirectory() as folder:
        return create_app(ServeSettings(data_dir=Path(folder))).openapi()


def breaking(old: dict[str, Any], new: dict[str, Any]) -> Iterator[str]:
    """What whoever relies on the old document would meet: an endpoint, an answer or a key that is gone, a key or a
    parameter that is wanted now.
    """
    for path, operations in old["paths"].items():
        for method, before in operations.items():
            after = new["paths"].get(path, {}).get(method)
            where = f"{method.upper()} {path}"
            if after is None:
                yield f"{where} is gone"
                continue
            for status in before["responses"].keys() - after["responses"].keys():
                yield f"{where}: no answer {status} any more"
            known = {one["name"] for one in before.get("parameters", ())}
            for one in after.get("parameters", ()):
                if one.get("required") and one["name"] not in known:
                    yield f"{where}: wants {one['name']} now"
            for name in known - {one["name"] for one in after.get("parameters", ())}:
                yield f"{where}: does not know {name} any more"
    for name, before in old["components"]["schemas"].items():
        after = new["components"]["schemas"].get(name)
        if after is None:
            yield f"{name} is gone"
            continue
        yield from _keys(name, before, after)


def _keys(name: str, before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    for key in before.get("properties", {}).keys() - after.get("properties", {}).keys():
        yield f"{name}: {key} is gone"
    old_required, new_required = set(before.get("required", ())), set(after.get("required", ()))
    for key in new_required - old_required - (after.get("properties", {}).keys() - before.get("properties", {}).keys()):
        yield f"{name}: {key} is wanted now"
    for key in (new_required - old_required) - before.get("properties", {}).keys():
        yield f"{name}: {key} is new and wanted"
    for key in (old_required - new_required) & after.get("properties", {}).keys():
        yield f"{name}: {key} may be missing now"


if __name__ == "__main__":
    found = current()
    if FILE.exists() and (broken := list(breaking(json.loads(FILE.read_text()), found))) and "--break" not in sys.argv:
        sys.exit("\n".join([*broken, "with --break it is written all the same"]))
    FILE.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")
