"""The command `thinwire`."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from . import cli_clients, cli_runs
from .cli_codecs import codecs_app
from .cli_compare import compare
from .cli_demo import demo
from .cli_methods import methods
from .cli_serve import serve

app = typer.Typer(
    name="thinwire",
    help="Federated learning over thin wires: the operator's command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(compare)
app.command()(serve)
app.add_typer(cli_runs.app, name="run")
app.add_typer(cli_clients.app, name="client")
app.command()(cli_clients.rotate_token)
app.command()(methods)
app.add_typer(codecs_app, name="codecs")


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
    """Federated learning over thin wires: the operator's command."""


def main() -> None:
    """The console script."""
    app()
