"""The commands that pages show, played as they stand there: on one machine, and demos with few rounds."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests import forked
from thinwire.operator.processes import Running
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.places import ADDRESS_FILE

from .conftest import ENVIRONMENT, until

DOCS = Path(__file__).resolve().parents[2] / "docs"
PLAYED = ("getting-started.md", "operating.md", "edge.md")
DEMOS = sorted((DOCS / "methods").glob("*.md"))
SHORTER = {"feddkd": "--clients 5 --rounds 2", "progfed": ""}
"""Two classes for each client leave none over for five; how noisy a chain may be hangs on how many share the noise."""
MODULES = {"thinwire": "thinwire.operator", "thinwire-client": "thinwire.edge_client"}
OWN = ("XDG_DATA_HOME", "XDG_CONFIG_HOME", "THINWIRE_DATA_DIR", "THINWIRE_URL", "THINWIRE_TOKEN", "THINWIRE_INVITE")


class Desk:
    """A person in an empty folder, with terminals. `said`: all that was written there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._log = folder / "log"
        self._log.touch()
        self._environment = {name: value for name, value in ENVIRONMENT.items() if name not in OWN}
        self._environment["HOME"] = str(folder)
        self._behind: list[Running] = []

    @property
    def said(self) -> str:
        return self._log.read_text()

    @property
    def url(self) -> str:
        """Of the coordinator that was started here."""
        return str(json.loads((self.folder / "thinwire-data" / ADDRESS_FILE).read_text())["url"])

    def type(self, line: str) -> None:
        """Plays a line to its end; one that ends in `&`, or serves, goes on behind it."""
        words = shlex.split(line, comments=True)
        behind = words[-1] == "&" or words[1] == "serve"
        command = ["-m", MODULES[Path(words[0]).name], *words[1 : -1 if words[-1] == "&" else None]]
        with self._log.open("ab") as output:
            process = forked.start(command, output.fileno(), environment=self._environment, folder=self.folder)
        if not behind:
            assert process.wait(200) == Exit.OK, (line, self.said[-3000:])
            return
        self._behind.append(process)
        if words[1] == "serve":
            until(lambda: "listens at" in self.said or process.poll() is not None)
            assert process.poll() is None, self.said

    def leave(self) -> list[int]:
        """Ends what goes on; the exit codes, the newest first."""
        for process in reversed(self._behind):
            process.terminate()
        codes = [process.wait(60) for process in reversed(self._behind)]
        self._behind.clear()
        return codes


JOINED = re.compile(r"joined \S+ as (\S+);")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.leave()
    assert "Traceback" not in made.said


def _lines(text: str, replaced: Mapping[str, str] | None = None) -> list[str]:
    """The commands of a text, each with these pieces replaced; what only a machine's owner does left out."""
    blocks = "".join(re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = [line for line in blocks.splitlines() if Path(line.split()[0]).name in MODULES]
    for old, new in (replaced or {}).items():
        lines = [line.replace(old, new) for line in lines]
    return lines


@pytest.mark.long
def test_getting_started(desk: Desk, free_port: int) -> None:
    steps = (DOCS / "getting-started.md").read_text().split("## 2. ")[1].split("## Then")[0]
    for line in _lines(steps, {"8080": str(free_port)}):
        desk.type(line)
    assert desk.leave() == [Exit.INTERRUPTED] * 4
    rounds = re.findall(r"^round (?:start|\d+)  accuracy (\d\.\d+)", desk.said, re.MULTILINE)
    accuracies = [float(found) for found in rounds]
    assert accuracies[-1] > accuracies[0]
    assert accuracies[-1] > 0.9
    first, final = (load_file(desk.folder / f"{name}.safetensors") for name in ("first", "final"))
    assert first.keys() == final.keys()


@pytest.mark.long
def test_operating_and_devices(desk: Desk) -> None:
    desk.type("thinwire serve --port 0")
    desk.type("thinwire client invite --out invite.txt")
    desk.type("thinwire new project")
    for name, place in (("task.py", "task.py"), ("run.toml", "run.toml")):
        (desk.folder / place).write_text((desk.folder / "project" / name).read_text())
    desk.type("thinwire-client model init --task task.py --out first.safetensors")
    desk.type("thinwire run start --model first.safetensors --set name=night --set rounds=2 --set cohort=1")
    elsewhere = {"https://coordinator.example": desk.url}
    for line in _lines((DOCS / "edge.md").read_text(), elsewhere):
        desk.type(f"{line} &" if " join " in line else line)
        if " join " in line:
            until(lambda: "waiting for new ones" in desk.said)
    (desk.folder / "ward.py").write_text((desk.folder / "task.py").read_text())
    for line in _lines((DOCS / "operating.md").read_text(), elsewhere):
        if " --says " in line:
            # A device of its own, which shows its code and waits.
            desk.type(f"{line} --data-dir ward &")
            code = until(lambda: re.search(r"\b[0-9A-Z]{4}-[0-9A-Z]{4}\b", desk.said))[0]
        elif " accept " in line:
            desk.type(line.replace("7K3M-0QXZ", code))
        elif " rename " in line:
            *_, last = until(lambda: found if len(found := JOINED.findall(desk.said)) > 1 else [])
            desk.type(line.replace("ward-7f3a", last))
        elif " relay " in line:
            desk.type(f"{line} --port 0 &")
        else:
            desk.type(line)
    assert "round 2" in desk.said
    assert (desk.folder / "fresh-data" / "thinwire.db").exists()


@pytest.mark.long
@pytest.mark.parametrize("page", DEMOS, ids=lambda page: page.stem)
def test_the_demos_of_a_method(page: Path, desk: Desk) -> None:
    lines = [line for line in _lines(page.read_text()) if line.startswith("thinwire demo ")]
    assert lines
    for number, line in enumerate(lines):
        desk.type(f"{line} {SHORTER.get(page.stem, '--clients 3 --rounds 2')} --report report-{number}")
        assert (desk.folder / f"report-{number}" / "report.html").exists()
