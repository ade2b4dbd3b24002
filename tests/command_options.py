"""Whether a command line that the documentation shows is one that the commands take."""

from __future__ import annotations

import importlib
from typing import Any, Final

from typer.main import get_command

from thinwire.coordinator.command import app as service
from thinwire.relay.command import app as relay

COMMANDS: Final = {"thinwire": "thinwire.operator.cli.app", "thinwire-client": "thinwire.edge_client.cli"}


def click_command(name: str) -> Any:
    """The click command behind `thinwire` or `thinwire-client`. Raises: `KeyError`."""
    return get_command(importlib.import_module(COMMANDS[name]).app)


def sub_commands(command: Any) -> dict[str, Any]:
    """By name; none for a command that has none. `serve` and `relay` are the services' own, to which words go on."""
    found: dict[str, Any] = getattr(command, "commands", {})
    services = {"serve": service, "relay": relay}
    return {name: get_command(services[name]) if name in services else inner for name, inner in found.items()}


def parameters(command: Any, kind: str) -> list[Any]:
    """Those of this kind, "option" or "argument"."""
    return [item for item in command.params if item.param_type_name == kind]


def check_command(line: list[str]) -> None:
    """Fails unless each word of this command line is a sub-command, an option or an operand where it stands.

    Values are not checked: an address or a file need not exist.
    """
    command = click_command(line[0])
    words = line[1:]
    while words and not words[0].startswith("-") and sub_commands(command):
        assert words[0] in sub_commands(command), f"{' '.join(line)}: there is no command {words[0]!r}"
        command = sub_commands(command)[words[0]]
        words = words[1:]
    options = {name: item for item in parameters(command, "option") for name in (*item.opts, *item.secondary_opts)}
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
    known = parameters(command, "argument")
    most = sum(item.nargs if item.nargs > 0 else 1000 for item in known)
    least = sum(item.nargs if item.nargs > 0 else 1 for item in known if item.required)
    if "--help" not in line:
        assert least <= operands <= most, f"{' '.join(line)}: {operands} operands"
