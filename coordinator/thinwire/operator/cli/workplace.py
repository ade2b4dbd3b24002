"""What `demo` and `compare` share: a folder for their processes, what must be installed, what is shown meanwhile."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Annotated, Final, NoReturn

from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console

from thinwire.operator.advise_trials import TrialsFailedError
from thinwire.operator.follow import Step, shown
from thinwire.operator.processes import ChildFailedError
from thinwire.protocol.exit_codes import Exit

from .options import Format, fail, failures_told

EXTRA: Final = {
    "fastapi": "serves",
    "jinja2": "fills in the report",
    "matplotlib": "draws the report",
    "sklearn": "holds the digits",
    "torch": "trains",
}


@dataclass(frozen=True, slots=True)
class Folders:
    """What is left behind."""

    data_dir: Annotated[Path | None, Field(description="keep all data and logs here; default: a temporary folder")] = (
        None
    )
    report: Annotated[Path, Field(description="folder for the report")] = Path("thinwire-report")


def require_extras() -> None:
    """Ends the process unless what coordinator, clients, data and reports need is installed."""
    for module, purpose in EXTRA.items():
        if importlib.util.find_spec(module) is None:
            fail(f"{module}, which {purpose}, is missing: pip install 'thinwire[demo]'", Exit.LOCAL)


def displayed(screen: Console, format_: Format) -> AbstractContextManager[Step]:
    """The rounds on the screen as they come; nothing while a JSON answer is in the making."""
    return shown(screen) if format_ is Format.TABLE else nullcontext(lambda _view, _rounds: None)


@contextmanager
def workplace(folders: Folders) -> Iterator[Path]:
    """An empty folder for the data and logs of processes; what goes wrong ends this process with its exit code. Whether
    the report can be written is tried first.

    A temporary folder is removed, unless the message names a log in it.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    keep = folders.data_dir is not None
    try:
        folders.report.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folders.report):
            pass
        folder = _fresh_folder(folders.data_dir)
    except OSError as error:
        fail(str(error), Exit.LOCAL)
    try:
        with failures_told():
            yield folder
    except KeyboardInterrupt:
        fail("interrupted; all processes have ended", Exit.INTERRUPTED)
    except ChildFailedError as error:
        keep = True
        fail(str(error), Exit(error.code) if error.code in set(Exit) else Exit.FAILED)
    except TrialsFailedError as error:
        fail(str(error), Exit(error.code) if error.code in set(Exit) else Exit.FAILED)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _fresh_folder(data_dir: Path | None) -> Path:
    """A temporary folder, or `demo-1`, `demo-2`, ... in the given one: clients never meet data of an older demo."""
    if data_dir is None:
        return Path(tempfile.mkdtemp(prefix="thinwire-demo-"))
    number = 1
    while (folder := data_dir / f"demo-{number}").exists():
        number += 1
    folder.mkdir(parents=True)
    return folder


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
