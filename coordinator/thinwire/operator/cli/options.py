"""What the commands share: where the coordinator is, how an answer looks, how a command fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import BaseModel, Field
from pydantic.dataclasses import dataclass

from thinwire.machine.files import write_atomic
from thinwire.machine.text import printable
from thinwire.operator.access import NoAddressError, find_login, kept_logins
from thinwire.operator.client import Coordinator
from thinwire.operator.transport import UnreachableError
from thinwire.protocol import command_options
from thinwire.protocol.command_options import Written
from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.reasons import ProblemError

PROGRAM: Final = "thinwire"
fail = partial(command_options.fail, PROGRAM)
with_options = partial(command_options.with_options, program=PROGRAM, option=typer.Option)


@dataclass(frozen=True, slots=True)
class Address:
    """Where a coordinator is, how it is known to be the right one, and who asks it."""

    data_dir: Annotated[
        Path, Field(description="folder of a coordinator on this machine"), Written(envvar="THINWIRE_DATA_DIR")
    ] = Path("thinwire-data")
    url: Annotated[str | None, Field(description="of the coordinator; or set THINWIRE_URL, or log in")] = None
    token_file: Annotated[
        Path | None, Field(description="with an operator's or a reader's token; or set THINWIRE_TOKEN, or log in")
    ] = None
    ca_file: Annotated[Path | None, Field(description="certificates to trust instead of the system's")] = None


@dataclass(frozen=True, slots=True)
class Assigned:
    """Settings of a run or of its method, as text."""

    set_: Annotated[
        tuple[str, ...], Field(description="a setting of run or method"), Written("--set", metavar="KEY=VALUE")
    ] = ()


class Format(StrEnum):
    """How a reading command answers."""

    TABLE = "table"
    JSON = "json"


AsFormat = Annotated[Format, typer.Option("--format", help="table or json")]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="a run's name or id")]


def warn(sentences: Sequence[str] | None) -> None:
    """Tells a person what is to be said of a run's settings, or of what has come of them."""
    for sentence in sentences or ():
        print(f"{PROGRAM}: warning: {printable(sentence)}", file=sys.stderr)


@contextmanager
def operator(at: Address) -> Iterator[Coordinator]:
    """Requests to the coordinator; what goes wrong ends the process with its exit code."""
    try:
        url, token, ca_file = find_login(at.url, at.token_file, at.data_dir, at.ca_file, kept_logins())
        client = Coordinator(url, token, ca_file=ca_file)
    except NoAddressError as error:
        fail(str(error), Exit.USAGE)
    except OSError as error:
        fail(str(error), Exit.LOCAL)
    try:
        with failures_told():
            yield client
    except KeyboardInterrupt:
        fail("interrupted", Exit.INTERRUPTED)
    finally:
        client.close()


@contextmanager
def failures_told() -> Iterator[None]:
    """Around requests: what goes wrong ends the process with a message and its exit code."""
    try:
        yield
    except UnreachableError as error:
        fail(str(error), Exit.UNREACHABLE)
    except ProblemError as error:
        fail(f"{error.reason}: {error.detail}", exit_of(error))
    except OSError as error:
        fail(str(error), Exit.LOCAL)


def exit_of(problem: ProblemError) -> Exit:
    """What a refusal means for the command that met it."""
    if problem.reason in ("run-invalid", "bad-message", "bad-request"):
        return Exit.USAGE
    return Exit.FAILED if problem.status >= 500 else Exit.REFUSED


def print_json(value: BaseModel | Mapping[str, Any] | Sequence[Any]) -> None:
    """On standard output, indented."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    print(json.dumps(plain, indent=2))


def write_secret(path: Path, text: str) -> None:
    """A file that only its owner can read, and that is there after a power cut. Raises: `OSError`."""
    write_atomic(path, f"{text}\n".encode(), fsync=True)
