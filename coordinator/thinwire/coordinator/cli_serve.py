"""`thinwire serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from thinwire.protocol.exit_codes import Exit

from .cli_options import fail, invalid


def serve(
    data_dir: Annotated[
        Path, typer.Option(envvar="THINWIRE_DATA_DIR", help="folder of database, payloads, checkpoints")
    ] = Path("thinwire-data"),
    host: Annotated[str, typer.Option(help="address to listen at")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one")] = 8080,
    certificate: Annotated[Path | None, typer.Option(help="TLS certificate chain, PEM")] = None,
    key: Annotated[Path | None, typer.Option(help="TLS private key, PEM")] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="plain HTTP beyond loopback")] = False,
    public_read: Annotated[
        bool, typer.Option("--public-read", help="reading runs, ledgers and models needs no token")
    ] = False,
    durability: Annotated[
        str, typer.Option(help="process or fsync: what acknowledged answers survive the death of")
    ] = "process",
    stalled_after: Annotated[float, typer.Option(help="seconds without one byte after which a transfer is cut")] = 60.0,
    present_for: Annotated[float, typer.Option(help="seconds a client counts as present after a request")] = 180.0,
    max_model_bytes: Annotated[int, typer.Option(help="of a submitted model")] = 1 << 32,
    max_clients: Annotated[int, typer.Option(help="that may enrol")] = 100_000,
    max_runs: Annotated[int, typer.Option(help="that it keeps")] = 10_000,
    max_disk_bytes: Annotated[
        int | None, typer.Option(help="in the data folder; beyond, no upload and no model is taken; default: no limit")
    ] = None,
    max_upload_bytes_per_client: Annotated[int, typer.Option(help="open uploads of one client")] = 1 << 36,
    max_upload_bytes_per_run: Annotated[int, typer.Option(help="open uploads of one run")] = 1 << 40,
    max_requests_per_client: Annotated[int, typer.Option(help="a second, over ten seconds")] = 200,
    max_requests_per_address: Annotated[int, typer.Option(help="a second, over ten seconds")] = 2000,
    max_failures_per_address: Annotated[int, typer.Option(help="wrong tokens and invites a minute")] = 120,
    max_connections_per_address: Annotated[int, typer.Option(help="at a time")] = 4096,
    trusted_proxies: Annotated[
        str, typer.Option(help="addresses, separated by commas, whose X-Forwarded-For is believed")
    ] = "",
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error")] = "info",
    workers: Annotated[int, typer.Option(help="threads that decode, hash and sum")] = 2,
) -> None:
    """Run a coordinator until Ctrl-C or SIGTERM; started again with the same folder, it goes on."""
    from .settings import ServeSettings

    given: dict[str, Any] = {
        "data_dir": data_dir,
        "host": host,
        "port": port,
        "certificate": certificate,
        "key": key,
        "insecure": insecure,
        "public_read": public_read,
        "durability": durability,
        "stalled_after_s": stalled_after,
        "present_for_s": present_for,
        "max_model_bytes": max_model_bytes,
        "max_clients": max_clients,
        "max_runs": max_runs,
        "max_disk_bytes": max_disk_bytes,
        "max_upload_bytes_per_client": max_upload_bytes_per_client,
        "max_upload_bytes_per_run": max_upload_bytes_per_run,
        "max_requests_per_client": max_requests_per_client,
        "max_requests_per_address": max_requests_per_address,
        "max_failures_per_address": max_failures_per_address,
        "max_connections_per_address": max_connections_per_address,
        "trusted_proxies": trusted_proxies,
        "log_level": log_level,
        "workers": workers,
    }
    try:
        settings = ServeSettings(**given)
    except ValidationError as error:
        fail(invalid(error), Exit.USAGE)

    from .server import CannotServeError
    from .server import serve as serve_until_signal

    def announce(url: str) -> None:
        place = f"--data-dir {data_dir}"
        lines = (
            f"The coordinator listens at {url}; its folder is {data_dir}",
            f"  invite a client:  thinwire client invite {place}",
            f"  join as a client: thinwire-client join {url} --invite-file FILE --task digits",
            f"  start a run:      thinwire run start {place} --model FILE",
            f"  look on:          {url}/",
        )
        print("\n".join(lines), flush=True)

    try:
        began = serve_until_signal(settings, announce)
    except CannotServeError as error:
        fail(str(error), Exit.LOCAL)
    raise typer.Exit(int(Exit.INTERRUPTED if began else Exit.LOCAL))
