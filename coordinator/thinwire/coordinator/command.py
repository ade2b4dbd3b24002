"""`thinwire serve`: its options are the fields of `ServeSettings`."""

from __future__ import annotations

import typer

from thinwire.protocol.command_options import fail, with_options
from thinwire.protocol.exit_codes import Exit

from .settings import ServeSettings

PROGRAM = "thinwire"

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def serve(settings: ServeSettings) -> None:
    """Run a coordinator until Ctrl-C or SIGTERM; started again with the same folder, it goes on."""
    from .server import CannotServeError
    from .server import serve as serve_until_signal

    def announce(url: str) -> None:
        if settings.log_format == "json":
            return  # the log says so itself
        place = f"--data-dir {settings.data_dir}"
        lines = (
            f"The coordinator listens at {url}; its folder is {settings.data_dir}",
            f"  invite a client:  thinwire client invite {place}",
            f"  join as a client: thinwire-client join {url} --invite-file FILE --task digits",
            f"  start a run:      thinwire run start {place} --model FILE",
            f"  look on:          {url}/",
        )
        print("\n".join(lines), flush=True)

    try:
        began = serve_until_signal(settings, announce)
    except CannotServeError as error:
        fail(PROGRAM, str(error), Exit.LOCAL)
    raise typer.Exit(int(Exit.INTERRUPTED if began else Exit.LOCAL))


EXAMPLES = (
    "thinwire serve --port 8080",
    "thinwire serve --host 0.0.0.0 --certificate chain.pem --key key.pem --data-dir /var/lib/thinwire",
)
app.command(epilog="\n\n".join(["Examples:", *EXAMPLES]))(with_options(serve, program=PROGRAM, option=typer.Option))
