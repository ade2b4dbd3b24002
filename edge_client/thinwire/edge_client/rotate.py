"""`thinwire-client rotate`: another token for this client, in the place of the one in its folder."""

from __future__ import annotations

import contextlib
import secrets
import ssl
from dataclasses import replace
from random import Random

from thinwire.protocol.exit_codes import Exit
from thinwire.protocol.messages import Enrolled, TokenRequest
from thinwire.protocol.reasons import ProblemError

from .console import Say
from .link.replies import BadPeerError
from .link.sockets import CountingBackend, UntrustedError
from .link.transfer import Patience, Transfer, UnreachableError
from .memory.folder import Folder, FolderInUseError
from .settings import PlaceSettings, UsageError


def rotate(options: PlaceSettings, say: Say) -> tuple[Exit, str]:
    """The exit code and what to tell the user. Where the answer is lost, the next try still has the old token: it is
    good for this one request until the new one has been used.
    """
    try:
        path, ca_file = options.folder, options.ca_file
    except UsageError as error:
        return Exit.USAGE, str(error)
    if not path.is_dir():
        return Exit.USAGE, f"there is no client in {path}"
    try:
        tls = ssl.create_default_context(cafile=ca_file)
        folder = Folder(path)
    except ssl.SSLError as error:
        return Exit.USAGE, f"--ca-file {ca_file}: {error}"
    except (FolderInUseError, OSError) as error:
        return Exit.LOCAL, str(error)
    try:
        credentials = folder.credentials()
        if credentials is None:
            return Exit.USAGE, f"the client in {path} has not enrolled"
        patience = Patience(give_up_after_s=options.give_up_after_s)
        transfer = Transfer(
            credentials.coordinator,
            CountingBackend(),
            rng=Random(),  # noqa: S311
            say=say,
            patience=patience,
            tls=tls,
        )
        transfer.use_token(credentials.token)
        asked = TokenRequest(nonce=secrets.token_bytes(16))
        with contextlib.closing(transfer):
            _, enrolled, _ = transfer.call("POST", f"/v1/clients/{credentials.client}/token", Enrolled, asked)
        if enrolled is None:
            return Exit.REFUSED, f"{credentials.coordinator} gave no token"
        folder.keep_credentials(replace(credentials, token=enrolled.token))
    except UnreachableError as error:
        return Exit.UNREACHABLE, str(error)
    except (BadPeerError, UntrustedError, ProblemError) as error:
        return Exit.REFUSED, str(error)
    except OSError as error:
        return Exit.LOCAL, str(error)
    finally:
        folder.close()
    return Exit.OK, f"{credentials.client} has a new token; the old one is worth nothing from now on"
