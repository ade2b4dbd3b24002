"""Devices without an invite: they ask to be let in, operators accept or refuse."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from thinwire.coordinator.serve.pending import Pending
from thinwire.coordinator.wire.accounting import account_of
from thinwire.coordinator.wire.addresses import address_of
from thinwire.coordinator.wire.documentation import describe
from thinwire.coordinator.wire.identity import require_operator, require_token_to_read
from thinwire.coordinator.wire.negotiation import empty, read_message, read_message_if_any, respond
from thinwire.protocol.messages import AcceptRequest, PendingAnswer, PendingList, PendingRequest, PendingView

from .parts import hung_up, of

Code = Annotated[str, Path(description="what the device shows", max_length=32)]
WaitS = Annotated[float, Query(ge=0, le=600, description="seconds to wait for an operator")]
router = APIRouter(tags=["clients"])


@router.post(
    "/v1/pending",
    **describe(
        "Ask to be let in without an invite; ask again to hear what came of it",
        takes=PendingRequest,
        gives=PendingAnswer,
        token=False,
        problems=("not-allowed", "too-many-requests", "storage-full", "storage-failed"),
    ),
)
async def ask(request: Request, wait_s: WaitS = 0) -> Response:
    account_of(request).kind = "enrol"
    pending, address = of(request, Pending), address_of(request.scope)
    wanted = await read_message(request, PendingRequest)
    # Each new one counts as a guess: whoever asks for many is slowed down like whoever tries many invites.
    counted = partial(request.app.state.guessed, address)
    answer = await pending.ask(wanted, address, wait_s, counted=counted, hung_up=partial(hung_up, request))
    return respond(request, answer)


@router.get("/v1/pending", **describe("Devices that wait to be let in", gives=PendingList, problems=("not-allowed",)))
async def waiting(request: Request) -> Response:
    pending = of(request, Pending)
    require_token_to_read(request)
    return respond(request, await pending.list())


@router.post(
    "/v1/pending/{code}",
    **describe(
        "Let a device in that waits: it may enrol, once, within a day",
        takes=AcceptRequest,
        gives=PendingView,
        problems=("not-allowed", "not-found", "name-taken", "storage-full", "storage-failed"),
    ),
)
async def accept(request: Request, code: Code) -> Response:
    pending = of(request, Pending)
    require_operator(request)
    wanted = await read_message_if_any(request, AcceptRequest) or AcceptRequest()
    return respond(request, await pending.accept(code, wanted))


@router.delete(
    "/v1/pending/{code}",
    **describe(
        "Refuse a device that waits", status=204,
        problems=("not-allowed", "not-found", "storage-full", "storage-failed"),
    ),
)  # fmt: skip
async def refuse(request: Request, code: Code) -> Response:
    pending = of(request, Pending)
    require_operator(request)
    await pending.refuse(code)
    return empty(204)
