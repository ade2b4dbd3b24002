"""Whether a command line that the documentation shows is one that the commands take."""

from __future__ import annotations

import importlib
from typing import Any, Final

import click
from typer.main import get_command

COMMANDS: Final = {"thinwire": "thinwire.coordinator.cli", "thinwire-client": "thinwire.edge_client.cli"}


def click_command(name: str) -> click.Command:
    """The command behind `thinwire` or `thinwire-client`. Raises: `KeyError`."""
    app: Any = importlib.import_module(COMMANDS[name]).app
    return get_command(app)


def check_command(line: list[str]) -> None:
    """Fails unless each word of this command line is a sub-command, an option or an operand where it stands.

    Values are not checked: an address or a file need not exist.
    """
    command = click_command(line[0])
    words = line[1:]
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"{' '.join(line)}: there is no command {words[0]!r}"
        command = command.commands[words[0]]
        words = words[1:]
    options = {name: option for option in command.params if isinstance(option, click.Option) for name in option.opts}
    options |= {name: option for option in options.values() for name in option.secondary_opts}
    operands = 0
    while words:
        word = words.pop(0)
        name, equals, _ = word.partition("=")
        if not word.startswith("-"):
            operands += 1
        elif name not in ("--help", "-h"):
            assert name in options, f"{' '.join(line)}: there is no option {name}"
            if not equals and not options[name].is_flag:
                assert words, f"{' '.join(line)}: {name} needs a value"
                words.pop(0)
    known = [item for item in command.params if isinstance(item, click.Argument)]
    most = sum(item.nargs if item.nargs > 0 else 1000 for item in known)
    least = sum(item.nargs if item.nargs > 0 else 1 for item in known if item.required)
    if "--help" not in line:
        assert least <= operands <= most, f"{' '.join(line)}: {operands} operands"
