"""`thinwire-client leave`: this device is no client any more, there and here."""

from __future__ import annotations

import contextlib
import ssl
from random import Random

from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.reasons import ProblemError

from .console import Say
from .link.replies import BadPeerError
from .link.sockets import CountingBackend, UntrustedError
from .link.transfer import Patience, Transfer, UnreachableError
from .memory.folder import Folder, FolderInUseError
from .memory.records import TornRecordError
from .settings import PlaceSettings, UsageError


def leave(options: PlaceSettings, say: Say) -> tuple[Exit, str]:
    """The exit code and what to tell the user. The token is worth nothing first, then forgotten: where the answer is
    lost, it can be asked for again. What the device knows of runs stays in its folder.
    """
    try:
        path, ca_file = options.folder, options.ca_file
    except UsageError as error:
        return Exit.USAGE, str(error)
    if not path.is_dir():
        return Exit.USAGE, f"there is no client in {path}"
    try:
        tls = ssl.create_default_context(cafile=ca_file)
        with contextlib.closing(Folder(path)) as folder:
            return _leave(folder, options, tls, say)
    except ssl.SSLError as error:
        return Exit.USAGE, f"--ca-file {ca_file}: {error}"
    except UnreachableError as error:
        return Exit.UNREACHABLE, str(error)
    except (BadPeerError, UntrustedError, ProblemError) as error:
        return Exit.REFUSED, str(error)
    except (FolderInUseError, TornRecordError, OSError) as error:
        return Exit.LOCAL, str(error)


def _leave(folder: Folder, options: PlaceSettings, tls: ssl.SSLContext, say: Say) -> tuple[Exit, str]:
    credentials = folder.credentials()
    if credentials is None:
        return Exit.USAGE, f"the client in {folder.path} has not enrolled"
    transfer = Transfer(
        credentials.coordinator,
        CountingBackend(),
        rng=Random(),  # noqa: S311
        say=say,
        patience=Patience(give_up_after_s=options.give_up_after_s),
        tls=tls,
    )
    transfer.use_token(credentials.token)
    with contextlib.closing(transfer):
        try:
            transfer.call("DELETE", f"/v1/clients/{credentials.client}")
        except ProblemError as error:
            if error.reason != "token-invalid":  # it is worth nothing already
                raise
    folder.forget_credentials()
    return (
        Exit.OK,
        f"{credentials.client} has left {credentials.coordinator}; what it knows of runs is in {folder.path}",
    )
