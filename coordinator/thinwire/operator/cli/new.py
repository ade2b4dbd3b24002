"""`thinwire new`: a folder to begin with."""

from __future__ import annotations

from enum import StrEnum
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final

import typer

from thinwire.protocol.exit_codes import Exit

from .options import fail

_TEMPLATES: Final = files("thinwire.operator") / "templates"


class Template(StrEnum):
    """What the task learns from, or how."""

    TABLE = "table"
    IMAGES = "images"
    TEXT = "text"
    LORA = "lora"
    OWN_LOOP = "own-loop"


def new(
    folder: Annotated[Path, typer.Argument(help="is made; it must not hold anything yet")],
    template: Annotated[
        Template, typer.Option(help="lora: adapters beside a trained model; own-loop: your training loop")
    ] = Template.TABLE,
) -> None:
    """Make a project: a task file, the settings of its run, a README with the next commands, and a test that passes."""
    written = {
        "task.py": _TEMPLATES / template / "task.py.txt",
        "run.toml": _TEMPLATES / template / "run.toml",
        "README.md": _TEMPLATES / "README.md.txt",
        "test_task.py": _TEMPLATES / "test_task.py.txt",
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            fail(f"{folder} is not empty; name a folder that is not there yet", Exit.USAGE)
        for name, source in written.items():
            text = source.read_text(encoding="utf-8")
            if name == "README.md":
                text = text.format(name=folder.resolve().name, template=template.value)
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{folder}: {error.strerror}", Exit.LOCAL)
    print(f"{folder}: {', '.join(written)}")
    print(f"next: cd {folder} && thinwire-client task check task.py")
