"""What clients say of themselves: sent by them, read by operators."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from thinwire.coordinator.serve.client_logs import MAX_PACKED, ClientLogs
from thinwire.coordinator.wire.documentation import BYTES, describe
from thinwire.coordinator.wire.identity import require_token_to_read
from thinwire.coordinator.wire.negotiation import empty, read_body, respond
from thinwire.protocol.messages import ClientLog
from thinwire.protocol.reasons import ProblemError

from .enrolment import ClientName
from .parts import client_of, of

router = APIRouter(tags=["clients"])


@router.post(
    "/v1/clients/{name}/log",
    **describe(
        "Lines of the log of the client that sends them",
        takes=BYTES,
        status=204,
        problems=("not-allowed", "bad-message", "message-too-large", "bad-request", "storage-failed", "storage-full"),
    ),
)
async def add(request: Request, name: ClientName) -> Response:
    logs = of(request, ClientLogs)
    client = client_of(request, "other")
    if client.name != name:
        raise ProblemError("not-allowed", "a client sends its own lines")
    await logs.add(name, await read_body(request, MAX_PACKED))
    return empty(204)


@router.get(
    "/v1/clients/{name}/log",
    **describe("The latest lines that a client has sent", gives=ClientLog, problems=("not-allowed", "not-found")),
)
async def show(request: Request, name: ClientName) -> Response:
    logs = of(request, ClientLogs)
    require_token_to_read(request)
    return respond(request, await logs.of(name))
