"""Who this client is: its credentials, from an invite where there are none yet."""

from __future__ import annotations

from thinwire.protocol.messages import Enrolled, Enrolment

from .link.replies import BadPeerError
from .link.transfer import Transfer
from .memory.folder import Credentials, Folder
from .memory.records import TornRecordError


def enrol(transfer: Transfer, folder: Folder, invite: str | None, name: str | None) -> Credentials:
    """The credentials of this folder, from an invite where there are none yet.

    Raises: `ProblemError` (`invite-invalid`, `name-taken`), `LookupError` where an invite is needed.
    """
    try:
        found = folder.credentials()
    except TornRecordError as error:
        raise LookupError(
            f"the credentials are damaged: {error}. Restore the file; or delete it and enrol under a new name with a "
            "new invite, and let the operator revoke the old name"
        ) from None
    if found is not None and found.coordinator != transfer.address:
        raise LookupError(f"the data folder belongs to a client of {found.coordinator}; take another --data-dir")
    if found is None:
        if not invite:
            raise LookupError("this client has not enrolled; give an invite: --invite-file FILE, or THINWIRE_INVITE")
        asked = Enrolment(invite=invite, name=name or folder.name())
        _, enrolled, _ = transfer.call("POST", "/v1/clients", Enrolled, asked)
        if enrolled is None:
            raise BadPeerError(f"{transfer.address} answers an enrolment without a word")
        found = Credentials(transfer.address, enrolled.client, enrolled.token)
        folder.keep_credentials(found)
    transfer.use_token(found.token)
    return found
