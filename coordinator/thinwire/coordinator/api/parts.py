"""What every router needs: the parts behind a request, checked path segments, who asks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, TypeVar

from fastapi import Path, Request

from thinwire.coordinator.records.clients import Client
from thinwire.coordinator.serve.enrolment import Enrolment
from thinwire.coordinator.serve.presence import Presence
from thinwire.coordinator.wire.accounting import account_of
from thinwire.coordinator.wire.identity import require_client
from thinwire.coordinator.wire.meter import METER
from thinwire.protocol.messages import LedgerKind
from thinwire.protocol.reasons import ProblemError

RunKey = Annotated[str, Path(description="id or name of the run", max_length=64)]
TaskId = Annotated[str, Path(description="id of the task", max_length=64)]
UploadId = Annotated[str, Path(description="id of the upload", max_length=64)]
DigestHex = Annotated[str, Path(description="SHA-256 in hex, 64 digits", max_length=128)]
PartT = TypeVar("PartT")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def of(request: Request, kind: type[PartT]) -> PartT:
    """The application's part of this class. Raises: `unavailable` while starting or stopping."""
    parts: Mapping[type, object] = request.app.state.parts
    found = parts.get(kind)
    if not isinstance(found, kind):
        raise ProblemError("unavailable", retry_after_s=2)
    return found


def client_of(request: Request, kind: LedgerKind) -> Client:
    """The client that asks; its bytes are charged to it. Waits for nothing.

    Raises: `token-missing`, `token-invalid`, `unavailable`.
    """
    account = account_of(request)
    account.kind = kind
    enrolment, presence = of(request, Enrolment), of(request, Presence)
    caller = require_client(request)
    client = enrolment.find(caller.token_hash)
    if client is None:  # revoked or replaced meanwhile
        raise ProblemError("token-invalid")
    account.client = client.name
    presence.touch(client.name, request.scope.get(METER))
    return client


async def hung_up(request: Request) -> None:
    """Returns when the peer has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def digest_from(text: str, reason: str) -> bytes:
    """The digest in a path. Raises the given reason where it is none."""
    if _DIGEST.fullmatch(text) is None:
        raise ProblemError(reason)
    return bytes.fromhex(text)
