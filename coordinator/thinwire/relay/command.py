"""`thinwire relay`: its options are the fields of `RelaySettings`."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

import typer

from thinwire.protocol.command_options import fail, with_options
from thinwire.protocol.exit_codes import Exit

from .settings import RelaySettings

PROGRAM = "thinwire"

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def relay(
    url: Annotated[str, typer.Argument(help="address of the coordinator, over the thin link")], settings: RelaySettings
) -> None:
    """Stand between a coordinator and many devices behind one thin link: payloads cross it once."""
    from .server import CannotRelayError, run_relay

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username:
        fail(PROGRAM, f"{url!r} is not an address such as https://coordinator.example", Exit.USAGE)

    def announce(own: str) -> None:
        if settings.log_format == "text":
            print(f"The relay listens at {own} for {url}\n  join a device: thinwire-client join {own} ...", flush=True)

    try:
        began = run_relay(url, settings, announce)
    except CannotRelayError as error:
        fail(PROGRAM, str(error), Exit.LOCAL)
    raise typer.Exit(int(Exit.INTERRUPTED if began else Exit.LOCAL))


EXAMPLES = (
    "thinwire relay https://coordinator.example --data-dir /var/lib/thinwire-relay",
    "thinwire relay https://coordinator.example --host 0.0.0.0 --certificate chain.pem --key key.pem",
)
app.command(epilog="\n\n".join(["Examples:", *EXAMPLES]))(with_options(relay, program=PROGRAM, option=typer.Option))
