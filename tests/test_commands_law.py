"""Laws over every command of both programs: help with examples that hold, JSON of all that reads, the nearest name."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.command_options import COMMANDS, check_command, click_command, parameters, sub_commands

CHANGES: Final = {
    "thinwire new", "thinwire serve", "thinwire relay",
    "thinwire bundle", "thinwire login", "thinwire logout", "thinwire backup",
    "thinwire restore", "thinwire migrate", "thinwire rotate-token", "thinwire run pause", "thinwire run resume",
    "thinwire run stop", "thinwire run extend", "thinwire run pull", "thinwire run delete", "thinwire client void",
    "thinwire client rename", "thinwire client revoke", "thinwire client delete", "thinwire client refuse",
    "thinwire webhook remove",
    "thinwire-client join", "thinwire-client simulate", "thinwire-client rotate", "thinwire-client leave",
    "thinwire-client fleet", "thinwire-client model init", "thinwire-client model export",
    "thinwire-client model merge", "thinwire-client model compact", "thinwire-client model expand",
}  # fmt: skip
"""What changes or writes something, and says no more than that; all others read."""


def _all(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for word, inner in sub_commands(command).items():
        yield from _all(f"{name} {word}", inner)


EVERY: Final = [one for name in COMMANDS for one in _all(name, click_command(name))]
LEAVES: Final = [
    (name, command) for name, command in EVERY if not sub_commands(command) or command.invoke_without_command
]


@pytest.mark.parametrize(("name", "command"), LEAVES, ids=[name for name, _ in LEAVES])
def test_its_help_has_examples_that_it_takes(name: str, command: Any) -> None:
    head, *lines = (command.epilog or "").split("\n\n")
    assert (head, bool(lines)) == ("Examples:", True), f"{name} has no example: see cli/examples.py"
    for line in lines:
        assert f"{line} ".startswith(f"{name} "), line
        words = shlex.split(line.partition(" < ")[0])
        check_command(words)


def test_what_reads_answers_in_json_too() -> None:
    reads = {name: command for name, command in LEAVES if name not in CHANGES}
    assert reads.keys() | CHANGES == {name for name, _ in LEAVES}
    for name, command in reads.items():
        (option,) = [item for item in parameters(command, "option") if "--format" in item.opts]
        assert "json" in option.help, name


def test_what_is_not_known_is_told_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    """Of every group each word, and of every command some long options, with a letter missing."""

    def refused(name: str, command: Any, wrong: str, right: str) -> None:
        with pytest.raises(SystemExit) as ended:
            command.main([wrong], prog_name=name)
        said = capsys.readouterr().err
        assert (ended.value.code, right in said) == (2, True), (name, wrong, said)

    for name, command in EVERY:
        words = sub_commands(command)
        for word in words:
            if len(word) > 3 and word[:-1] not in words:
                refused(name, command, word[:-1], f"'{word}'")
        known = {written for item in parameters(command, "option") for written in item.opts}
        for option in sorted(known)[:3]:
            if option.startswith("--") and len(option) > 6 and option[:-1] not in known:
                refused(name, command, option[:-1], option)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_shell_completes_it(name: str) -> None:
    """As bash asks: the words so far, and which of them."""
    module = {"thinwire": "thinwire.operator", "thinwire-client": "thinwire.edge_client"}[name]
    word = {"thinwire": "prob", "thinwire-client": "doc"}[name]
    variable = f"_{name.upper().replace('-', '_')}_COMPLETE"
    asked = {variable: "complete_bash", "COMP_WORDS": f"{name} {word}", "COMP_CWORD": "1"}
    code = f"import sys; sys.argv = [{name!r}]; from {module}.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == [{"prob": "problems", "doc": "doctor"}[word]], done.stderr
