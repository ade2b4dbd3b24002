"""`thinwire bundle`: an archive for a bug report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from thinwire.machine.files import write_atomic
from thinwire.machine.quantities import in_bytes
from thinwire.operator.access import find_login, kept_logins
from thinwire.operator.bundle import archive
from thinwire.operator.bundle import bundle as collect
from thinwire.operator.console import say
from thinwire.operator.doctor import examine_coordinator, examine_folder

from .options import Address, operator, with_options


@with_options
def bundle(
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="file")] = Path("thinwire-bundle.tar.gz"),
    at: Address,
) -> None:
    """Write what a bug report needs: versions, findings, runs, figures; names, addresses and tokens left out."""
    with operator(at) as coordinator:
        url, token, ca_file = find_login(at.url, at.token_file, at.data_dir, at.ca_file, kept_logins())
        findings = [*examine_coordinator(url, token, ca_file)]
        if at.data_dir.is_dir():
            findings += examine_folder(at.data_dir)
        files = collect(coordinator, findings)
        write_atomic(out, archive(files), fsync=False)
    say(f"{out}: {in_bytes(out.stat().st_size)}, {len(files)} files; look through them before you hand it on")
