"""`thinwire backup`, `thinwire restore`: by the service's own code, which knows what lies in its folder."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from thinwire.operator.console import say
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.missing import explained
from thinwire.protocol.reasons import ProblemError

from .options import fail

SERVICE: Final = "thinwire.coordinator.backup"
RELOCATION: Final = "thinwire.coordinator.relocation"
DataDir = Annotated[
    Path, typer.Option("--data-dir", envvar="THINWIRE_DATA_DIR", show_envvar=False, help="folder of the coordinator")
]
_USUAL: Final = Path("thinwire-data")


def backup(
    target: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="a new folder on this machine, or one file: NAME.tar")
    ],
    data_dir: DataDir = _USUAL,
) -> None:
    """Copy a coordinator's folder, also while it is served: into a new folder, or into one file, NAME.tar."""
    copied = _do("back_up", data_dir, target)
    say(f"{target}: the database and {copied} objects of {data_dir}, the operator's token among them; keep it closed")


def restore(
    folder: Annotated[Path, typer.Argument(help="what `thinwire backup` made, a folder or a file")],
    data_dir: DataDir = _USUAL,
) -> None:
    """Make a coordinator's folder of a backup, folder or file. Runs begin the exchange again that was open."""
    copied = _do("restore", folder, data_dir)
    say(f"{data_dir}: the database and {copied} objects of {folder}; start it by: thinwire serve --data-dir {data_dir}")


def migrate(
    data_dir: DataDir = _USUAL,
    database: Annotated[
        str, typer.Option(envvar="THINWIRE_DATABASE", show_envvar=False, help="postgresql://...: rows go there")
    ] = "",
    objects: Annotated[
        str, typer.Option(envvar="THINWIRE_OBJECTS", show_envvar=False, help="s3://... or another: objects go there")
    ] = "",
) -> None:
    """Move a federation that is stopped from its folder to PostgreSQL, to a store, or both."""
    if not database and not objects:
        fail("say where to: --database, --objects or both", Exit.USAGE)
    with explained("coordinator"):
        service: Any = import_module(RELOCATION)
    try:
        rows, copied = service.relocate(data_dir, database, objects)
    except service.RelocationError as error:
        fail(str(error), Exit.LOCAL)
    except ProblemError as error:
        fail(f"{error.reason}: {error.detail}", Exit.LOCAL)
    except OSError as error:
        fail(str(error), Exit.LOCAL)
    say(f"{rows} rows and {copied} objects of {data_dir} were moved; serve it with the same --database and --objects")


def _do(what: str, source: Path, target: Path) -> int:
    with explained("coordinator"):
        service: Any = import_module(SERVICE)
    try:
        copied: int = getattr(service, what)(source, target)
    except service.BackupError as error:
        fail(str(error), Exit.LOCAL)
    except ProblemError as error:
        fail(f"{error.reason}: {error.detail}", Exit.LOCAL)
    except OSError as error:
        fail(str(error), Exit.LOCAL)
    return copied
