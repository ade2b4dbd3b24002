"""Writes the lists of commands and options in `docs/commands.md`: `python -m tests.write_commands`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.command_options import COMMANDS, click_command, parameters, sub_commands

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


def filled(text: str) -> str:
    """The text, with the lists as the commands have them now."""
    block = f"<!-- generated: commands -->\n\n{generated()}\n\n<!-- end -->"
    return re.sub(r"<!-- generated: commands -->.*?<!-- end -->", lambda _: block, text, flags=re.DOTALL)


if __name__ == "__main__":
    TEXT.write_text(filled(TEXT.read_text()))
