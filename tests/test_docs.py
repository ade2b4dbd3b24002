"""What a reader is told is so: commands, options, exit codes, links, pictures."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests import write_commands
from tests.command_options import check_command
from tests.service.test_pages import PLAYED
from thinwire.protocol.exit_codes import Exit

ROOT = Path(__file__).resolve().parent.parent
TEXTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "deploy/**/*.md", "codecs/*.md", "protocol/*.md", "benchmarks/**/*.md")
    for path in ROOT.glob(pattern)
)
EACH = pytest.mark.parametrize("text", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))


def _shell_lines(text: Path) -> list[str]:
    """The commands in `sh` blocks: continued lines joined, comments, prompts and what follows a pipe cut off."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text.read_text(), re.MULTILINE | re.DOTALL)
    joined = "\n".join(blocks).replace("\\\n", " ")
    return [line.strip() for line in joined.splitlines() if line.strip() and not line.lstrip().startswith("#")]


@EACH
def test_every_command_shown_is_one_that_there_is(text: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in _shell_lines(text):
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
            words.pop(0)
        for end in (">", "|", "&", "<"):
            words = words[: words.index(end)] if end in words else words
        name = Path(words[0]).name
        if name in ("thinwire", "thinwire-client"):
            check_command([name, *words[1:]])
        elif name == "make":
            assert {word for word in words[1:] if "=" not in word} <= targets, line
        else:
            assert name in {"cd", "cp", "curl", "git", "pip", "podman", "python", "python3", "systemctl"}, line


@EACH
def test_every_link_leads_to_a_file(text: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", text.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", prose):
        if "://" not in target and not target.startswith("mailto:"):
            assert (text.parent / target).exists(), f"{target} is missing"


@EACH
def test_no_text_speaks_of_somebodys_machine(text: Path) -> None:
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp|Users)/", text.read_text())


def test_the_exit_codes_are_the_commands() -> None:
    table = re.findall(r"^\| (\d+) \| `(\w+)` \| (.+) \|$", (ROOT / "docs" / "commands.md").read_text(), re.MULTILINE)
    assert {(int(code), name) for code, name, _ in table} == {(int(code), code.name) for code in Exit}
    assert all(meaning for _, _, meaning in table)


def test_the_list_of_commands_is_the_commands() -> None:
    text = write_commands.TEXT.read_text()
    assert write_commands.filled(text) == text, "run: python -m tests.write_commands"


def test_the_makefile_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.findall(r"^\.PHONY: (\S+)$", makefile, re.MULTILINE))
    assert phony == set(re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE))


def test_continuous_integration_is_the_makefile() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "make check test" in script.read_text()


def test_the_changelog_speaks_of_the_wire() -> None:
    assert "### Wire" in (ROOT / "CHANGELOG.md").read_text()


@EACH
def test_commands_are_played_by_a_test_or_named_as_not_run(text: Path) -> None:
    """What is played: `tests/service/test_pages.py` and `test_by_hand.py`."""
    shown = [line for line in _shell_lines(text) if Path(shlex.split(line)[0]).name in ("thinwire", "thinwire-client")]
    played = text.parent.name == "methods" or text.name in PLAYED
    assert not shown or played or re.search(r"\bnot run\b", text.read_text()), "say which commands no test runs"
