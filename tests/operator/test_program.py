"""The command `thinwire` as a process: what it loads, and what it says where something is not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from thinwire.coordinator.command import app as service
from thinwire.operator.cli.app import app
from thinwire.protocol.exit_codes import Exit

HEAVY = ("fastapi", "starlette", "sqlalchemy", "alembic", "uvicorn", "torch", "thinwire.coordinator")
LOADED = """
import json, sys
from thinwire.operator.cli import main
sys.argv = ["thinwire", *{words!r}]
try:
    main()
except SystemExit as ended:
    code = ended.code
print(json.dumps([code, [name for name in {heavy!r} if name in sys.modules]]))
"""


def _python(code: str, *, hidden: str = "", folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter; `hidden`: a library that it does not find, since a broken one lies before it."""
    environment = dict(os.environ)
    if folder is not None:
        (folder / f"{hidden}.py").write_text(f"raise ModuleNotFoundError(name={hidden!r})\n")
        environment["PYTHONPATH"] = str(folder)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--help"], Exit.OK),
        (["methods"], Exit.OK),
        (["codecs"], Exit.OK),
        (["run", "list", "--url", "http://127.0.0.1:9"], Exit.UNREACHABLE),
    ],
)
def test_it_loads_no_service(words: list[str], code: Exit) -> None:
    done = _python(LOADED.format(words=words, heavy=HEAVY))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [code, []]


def test_serve_is_the_services_own_command() -> None:
    done = _python(LOADED.format(words=["serve", "--help"], heavy=HEAVY))
    assert "Usage: thinwire serve" in done.stdout
    assert "--max-disk-bytes" in done.stdout
    passed_on = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    assert passed_on.help == get_command(service).help


@pytest.mark.parametrize(
    ("words", "library", "extra"),
    [(["--help"], "typer", "operator"), (["run", "list"], "httpx", "operator"), (["serve"], "uvicorn", "coordinator")],
)
def test_what_is_not_installed_is_named(words: list[str], library: str, extra: str, tmp_path: Path) -> None:
    code = f"import sys\nfrom thinwire.operator.cli import main\nsys.argv = ['thinwire', *{words!r}]\nmain()"
    done = _python(code, hidden=library, folder=tmp_path)
    assert done.returncode == Exit.LOCAL
    assert done.stderr == f"thinwire: {library} is not installed; install it by: pip install 'thinwire[{extra}]'\n"
