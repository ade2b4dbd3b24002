"""Writes the lists of commands, options and settings in `docs/commands.md`: `python -m tests.write_commands`."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from pydantic.fields import FieldInfo

from tests.command_options import COMMANDS, click_command, parameters, sub_commands
from thinwire.methods import registry
from thinwire.methods.registry import find_method
from thinwire.operator.cli.run_settings import setting_name
from thinwire.protocol.settings import RunSettings, kebab

TEXT: Final = Path(__file__).resolve().parents[1] / "docs" / "commands.md"


def _leaves(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    inside = sub_commands(command)
    if not inside or command.invoke_without_command:
        yield name, command
    for word, inner in inside.items():
        if not inner.hidden:
            yield from _leaves(f"{name} {word}", inner)


def _section(name: str, command: Any) -> str:
    operands = [(item.metavar or item.name).upper() for item in parameters(command, "argument")]
    options = [item for item in parameters(command, "option") if not item.hidden and "--help" not in item.opts]
    rows = [
        f"| {', '.join(f'`{word}`' for word in (*item.opts, *item.secondary_opts))} | {_escape(item.help or '')} |"
        for item in options
    ]
    table = ["", "| option | meaning |", "|---|---|", *rows] if rows else []
    summary = re.sub(r"\s+", " ", (command.help or "").split("\n\n")[0].replace("\b", "")).strip()
    return "\n".join([f"## `{' '.join([name, *operands])}`", "", summary, *table])


def _escape(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def generated() -> str:
    """A section for each command."""
    return "\n\n".join(_section(full, leaf) for name in COMMANDS for full, leaf in _leaves(name, click_command(name)))


def settings() -> str:
    """A row for each setting of a run."""
    rows = [
        f"| `{kebab(name)}` | {_default(field)} | {_escape(field.description or '')} |"
        for name, field in RunSettings.model_fields.items()
    ]
    return "\n".join(["| setting | default | meaning |", "|---|---|---|", *rows])


def settings_of_methods() -> str:
    """A table for each method of the package. Not `method_ids()`: other tests put toys on the same path."""
    parts = []
    folders = pkgutil.iter_modules([str(Path(registry.__file__).parent)])
    for method_id in sorted(folder.name for folder in folders if folder.ispkg):
        rows = [
            f"| `{setting_name(name, field)}` | {_default(field)} | {_escape(field.description or '')} |"
            for name, field in find_method(method_id).settings.model_fields.items()
        ]
        parts.append("\n".join([f"### `{method_id}`", "", "| setting | default | meaning |", "|---|---|---|", *rows]))
    return "\n\n".join(parts)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "" if value is None or value == {} else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def filled(text: str) -> str:
    """The text, with the lists as the commands have them now."""
    blocks = {"settings": settings(), "methods": settings_of_methods(), "commands": generated()}
    for name, block in blocks.items():
        begins = f"<!-- generated: {name} -->"
        whole = f"{begins}\n\n{block}\n\n<!-- end -->"
        text = re.sub(begins + r".*?<!-- end -->", lambda _, whole=whole: whole, text, flags=re.DOTALL)  # type: ignore[misc]
    return text


if __name__ == "__main__":
    TEXT.write_text(filled(TEXT.read_text()))
