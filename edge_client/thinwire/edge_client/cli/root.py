"""The command `thinwire-client` as a whole: its groups, and what its commands share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Annotated, Final, Literal

import typer

from thinwire.edge_client.settings import UsageError
from thinwire.protocol.command_options import fail, with_options
from thinwire.protocol.exit_codes import Exit

PROGRAM: Final = "thinwire-client"
AsFormat = Annotated[Literal["text", "json"], typer.Option("--format", help="text or json")]
app = typer.Typer(
    name=PROGRAM,
    help="Takes part in federated training with this device's data, which never leaves it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
model_app = typer.Typer(help="What is done to models where torch is.", no_args_is_help=True)
app.add_typer(model_app, name="model")
task_app = typer.Typer(help="What is learnt, before anything is sent.", no_args_is_help=True)
app.add_typer(task_app, name="task")


def command(group: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command of this group, with the options of its settings models."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        group.command(name)(with_options(function, program=PROGRAM, option=typer.Option))
        return function

    return add


@contextmanager
def told() -> Iterator[None]:
    """What is wrong with a model or its problem ends the command in words."""
    from thinwire.edge_client.problems.problem_file import ProblemFileError

    try:
        yield
    except (ProblemFileError, ValueError, UsageError) as error:
        fail(PROGRAM, str(error), Exit.USAGE)
    except OSError as error:
        fail(PROGRAM, str(error), Exit.LOCAL)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(version("thinwire"))
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", "-V", help="print the version", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Takes part in federated training with this device's data, which never leaves it."""
