"""What every router needs: the coordinator behind a request, checked path segments, who asks."""

from __future__ import annotations

import re
import time
from typing import Annotated

from fastapi import Path, Request

from thinwire.coordinator.access import Client
from thinwire.coordinator.coordinator import Coordinator
from thinwire.coordinator.wire.accounting import account_of
from thinwire.coordinator.wire.identity import require_client
from thinwire.protocol.messages import LedgerKind
from thinwire.protocol.reasons import ProblemError

RunKey = Annotated[str, Path(description="id or name of the run", max_length=64)]
TaskId = Annotated[str, Path(description="id of the task", max_length=64)]
UploadId = Annotated[str, Path(description="id of the upload", max_length=64)]
DigestHex = Annotated[str, Path(description="SHA-256 in hex, 64 digits", max_length=128)]
_DIGEST = re.compile(r"[0-9a-f]{64}")


def coordinator_of(request: Request) -> Coordinator:
    """Raises: `unavailable` while starting or stopping."""
    coordinator: Coordinator = request.app.state.coordinator
    if not coordinator.ready:
        raise ProblemError("unavailable", retry_after_s=2)
    return coordinator


def client_of(request: Request, kind: LedgerKind) -> Client:
    """The client that asks; its bytes are charged to it. Waits for nothing.

    Raises: `token-missing`, `token-invalid`, `unavailable`.
    """
    account = account_of(request)
    account.kind = kind
    coordinator = coordinator_of(request)
    client = coordinator.access.clients[require_client(request).name]
    account.client = client.name
    coordinator.presence.touch(client, time.monotonic(), time.time())
    return client


def digest_from(text: str, reason: str) -> bytes:
    """The digest in a path. Raises the given reason where it is none."""
    if _DIGEST.fullmatch(text) is None:
        raise ProblemError(reason)
    return bytes.fromhex(text)
