"""Invites, enrolment, new tokens, revocation, deletion."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from thinwire.coordinator.serve.enrolment import Enrolment
from thinwire.coordinator.serve.labels import Labels
from thinwire.coordinator.serve.reads import Reads
from thinwire.coordinator.serve.uploads import Uploads
from thinwire.coordinator.wire.accounting import account_of
from thinwire.coordinator.wire.documentation import describe
from thinwire.coordinator.wire.identity import TAKE_TASKS, asker, require_operator, require_token_to_read
from thinwire.coordinator.wire.negotiation import empty, read_message, read_message_if_any, respond
from thinwire.protocol.messages import (
    ClientLabel,
    ClientList,
    Enrolled,
    Invite,
    InviteList,
    InviteRequest,
    OperatorToken,
    TokenRequest,
)
from thinwire.protocol.messages import Enrolment as EnrolmentMessage
from thinwire.protocol.reasons import ProblemError

from .parts import of

ClientName = Annotated[str, Path(description="the client's name, or what people call it", max_length=64)]
InviteDigits = Annotated[str, Path(description="8 hexadecimal digits that name it, or more", max_length=64)]
router = APIRouter(tags=["clients"])


@router.post(
    "/v1/clients",
    **describe(
        "Enrol with an invite; the answer holds the session token",
        takes=EnrolmentMessage,
        gives=Enrolled,
        status=201,
        token=False,
        problems=("invite-invalid", "name-taken", "too-many-requests"),
    ),
)
async def enrol(request: Request) -> Response:
    account = account_of(request)
    account.kind = "enrol"
    enrolment = of(request, Enrolment)
    enrolled = await enrolment.enrol(await read_message(request, EnrolmentMessage))
    account.client = enrolled.client
    return respond(request, enrolled, 201)


@router.get("/v1/clients", **describe("All clients, by name", gives=ClientList, problems=("not-allowed",)))
async def clients(request: Request) -> Response:
    reads = of(request, Reads)
    require_token_to_read(request)
    return respond(request, await reads.clients())


@router.delete(
    "/v1/clients/{name}",
    **describe(
        "Revoke a client, or leave as one: its token is worth nothing from now on",
        status=204,
        problems=("not-allowed", "not-found"),
    ),
)
async def revoke(
    request: Request,
    name: ClientName,
    invite: Annotated[bool, Query(description="the invite it came with is worth nothing either")] = False,
) -> Response:
    enrolment, uploads, labels = of(request, Enrolment), of(request, Uploads), of(request, Labels)
    caller = asker(request).caller
    leaves = caller is not None and caller.name == name and caller.role in TAKE_TASKS and not invite
    if not leaves:
        require_operator(request)
    known = labels.known(name).name
    await enrolment.revoke(known, invite=invite)
    await uploads.release_client(known)
    return empty(204)


@router.delete(
    "/v1/clients/{name}/record",
    **describe(
        "Delete a client: revoked, and in no list any more; its bytes, and its name in histories, stay",
        status=204,
        problems=("not-allowed", "not-found", "storage-full", "storage-failed"),
    ),
)
async def delete(request: Request, name: ClientName) -> Response:
    enrolment, uploads, labels = of(request, Enrolment), of(request, Uploads), of(request, Labels)
    require_operator(request)
    known = labels.known(name).name
    await enrolment.delete(known)
    await uploads.release_client(known)
    return empty(204)


@router.post(
    "/v1/clients/{name}",
    **describe(
        "What people call a client from now on; its name stays",
        takes=ClientLabel,
        gives=ClientLabel,
        problems=("not-allowed", "not-found", "name-taken", "storage-full", "storage-failed"),
    ),
)
async def rename(request: Request, name: ClientName) -> Response:
    labels = of(request, Labels)
    require_operator(request)
    client = await labels.rename(name, (await read_message(request, ClientLabel)).label)
    return respond(request, ClientLabel(label=client.label))


@router.post(
    "/v1/clients/{name}/token",
    **describe(
        "Replace the token of the client that asks; the old one is worth nothing from now on",
        takes=TokenRequest,
        gives=Enrolled,
        status=201,
        problems=("not-allowed", "too-many-requests"),
    ),
)
async def rotate(request: Request, name: ClientName) -> Response:
    account = account_of(request)
    account.kind = "enrol"
    enrolment = of(request, Enrolment)
    wanted = await read_message_if_any(request, TokenRequest)
    enrolled = await enrolment.rotate(name, asker(request).presented, None if wanted is None else wanted.nonce)
    account.client = name
    return respond(request, enrolled, 201)


@router.post(
    "/v1/operator/token",
    **describe(
        "Replace the operator's token, in the data folder; the old one is worth nothing from now on",
        gives=OperatorToken,
        status=201,
        problems=("not-allowed", "storage-full", "storage-failed"),
    ),
)
async def rotate_operator(request: Request) -> Response:
    enrolment = of(request, Enrolment)
    require_operator(request)
    if not asker(request).owner:
        raise ProblemError("not-allowed", "only the operator of the data folder may replace its token")
    return respond(request, await enrolment.owner.rotate(), 201)


@router.post(
    "/v1/invites",
    **describe(
        "Make an invite; its code is shown once",
        takes=InviteRequest,
        gives=Invite,
        status=201,
        problems=("not-allowed",),
    ),
)
async def invite(request: Request) -> Response:
    enrolment = of(request, Enrolment)
    require_operator(request)
    return respond(request, await enrolment.invite(await read_message(request, InviteRequest)), 201)


@router.get(
    "/v1/invites",
    **describe("Invites that have not expired, used-up ones too", gives=InviteList, problems=("not-allowed",)),
)
async def invites(request: Request) -> Response:
    enrolment = of(request, Enrolment)
    require_token_to_read(request)
    return respond(request, await enrolment.invites())


@router.delete(
    "/v1/invites/{invite}",
    **describe(
        "Void an invite: nobody enrols with it any more; who has stays",
        status=204,
        problems=("not-allowed", "bad-request", "not-found", "storage-full", "storage-failed"),
    ),
)
async def void(request: Request, invite: InviteDigits) -> Response:
    enrolment = of(request, Enrolment)
    require_operator(request)
    await enrolment.void(invite)
    return empty(204)
