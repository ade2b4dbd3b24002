"""The command `thinwire` and all below it."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from thinwire.protocol.command_options import add_examples

from . import (
    advise,
    backup,
    bill,
    bundle,
    clients,
    codecs,
    compare,
    demo,
    doctor,
    login,
    methods,
    new,
    pending,
    plan,
    problems,
    runs,
    serve,
    simulate,
    webhooks,
)
from .examples import EXAMPLES

app = typer.Typer(
    name="thinwire",
    help="Federated learning over thin wires: the operator's command.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(new.new)
app.command()(demo.demo)
app.command()(compare.compare)
app.command()(simulate.simulate)
app.command("advise")(advise.advise_command)
app.command("plan")(plan.plan_command)
app.command(add_help_option=False, context_settings=serve.PASSED_ON)(serve.serve)
app.command(add_help_option=False, context_settings=serve.PASSED_ON)(serve.relay)
app.command()(problems.problems)
app.command()(bill.bill)
app.command()(doctor.doctor)
app.command()(bundle.bundle)
app.command()(login.login)
app.command()(login.logout)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(backup.migrate)
app.add_typer(runs.app, name="run")
clients.app.command()(pending.pending)
clients.app.command()(pending.accept)
clients.app.command()(pending.refuse)
app.add_typer(clients.app, name="client")
app.add_typer(webhooks.app, name="webhook")
app.command()(clients.rotate_token)
app.command()(methods.methods)
app.add_typer(codecs.app, name="codecs")


add_examples(app, EXAMPLES, "thinwire")


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
