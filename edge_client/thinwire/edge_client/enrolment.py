"""Who this client is: its credentials, from an invite where there are none yet, or where they are worth nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from thinwire.protocol.messages import Enrolled, Enrolment
from thinwire.protocol.reasons import ProblemError

from .link.replies import BadPeerError
from .link.transfer import Transfer
from .memory.folder import Credentials, Folder
from .memory.records import TornRecordError
from .settings import UsageError


def client_name(folder: Folder, wished: str | None) -> str:
    """What this client is called, or will ask to be called; kept in its folder."""
    try:
        found = folder.credentials()
    except TornRecordError:
        found = None
    return wished or folder.name() if found is None else found.client


def enrol(
    transfer: Transfer,
    folder: Folder,
    invite: str | None,
    name: str | None,
    *,
    ask_in: Callable[[str], str] | None = None,
    moved: bool = False,
) -> Credentials:
    """The credentials of this folder, from an invite where there are none yet. `ask_in`: gets one for a client of this
    name where none is given. `moved`: those for another address are for this one: the same coordinator, says the user,
    has moved here.

    Raises: `ProblemError` (`invite-invalid`, `name-taken`), `UsageError`.
    """
    try:
        found = folder.credentials()
    except TornRecordError as error:
        raise UsageError(
            f"the credentials are damaged: {error}. Restore the file; or delete it and enrol under a new name with a "
            "new invite, and let the operator revoke the old name"
        ) from None
    if found is None:
        name = name or folder.name()
        if not invite and ask_in is not None:
            invite = ask_in(name)
        return _enrolled(transfer, folder, invite, name)
    if found.coordinator == transfer.address:
        transfer.use_token(found.token)
        return found
    if not moved:
        raise UsageError(
            f"the data folder belongs to a client of {found.coordinator}; take another --data-dir, or, if that "
            "coordinator has moved here, say --moved"
        )
    # Whoever answers here has not been heard before.
    transfer.use_token(found.token, known=False)
    found = replace(found, coordinator=transfer.address)
    folder.keep_credentials(found)
    return found


def enrol_again(transfer: Transfer, folder: Folder, invite: str, name: str, refused: ProblemError) -> Credentials:
    """Credentials in the place of those that were `refused`; the rest of the folder stays. Raises: `ProblemError`."""
    transfer.use_token("")
    try:
        return _enrolled(transfer, folder, invite, name)
    except ProblemError as error:
        raise ProblemError(refused.reason, f"{refused.detail}. Nor does the invite help: {error}") from None


def _enrolled(transfer: Transfer, folder: Folder, invite: str | None, name: str) -> Credentials:
    if not invite:
        raise UsageError("this client has not enrolled; give an invite: --invite-file FILE, or THINWIRE_INVITE")
    asked = Enrolment(invite=invite, name=name, nonce=folder.nonce())
    before, here = folder.link(), transfer.backend.kernel()
    link = before[0] + here.sent, before[1] + here.received
    _, enrolled, _ = transfer.call("POST", "/v1/clients", Enrolled, asked)
    if enrolled is None:
        raise BadPeerError(f"{transfer.address} answers an enrolment without a word")
    found = Credentials(transfer.address, enrolled.client, enrolled.token, link)
    folder.keep_credentials(found)
    transfer.use_token(found.token)
    return found
