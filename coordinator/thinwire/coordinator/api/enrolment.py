"""Invites, enrolment, new tokens, revocation."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from thinwire.coordinator.wire.accounting import account_of
from thinwire.coordinator.wire.documentation import describe
from thinwire.coordinator.wire.identity import asker, require_operator
from thinwire.coordinator.wire.negotiation import empty, read_message, respond
from thinwire.protocol.messages import (
    ClientList,
    ClientView,
    Enrolled,
    Enrolment,
    Invite,
    InviteRequest,
    OperatorToken,
)
from thinwire.protocol.reasons import ProblemError

from .parts import coordinator_of

ClientName = Annotated[str, Path(description="the client's name", max_length=64)]
router = APIRouter(tags=["clients"])


@router.post(
    "/v1/clients",
    **describe(
        "Enrol with an invite; the answer holds the session token",
        takes=Enrolment,
        gives=Enrolled,
        status=201,
        token=False,
        problems=("invite-invalid", "name-taken", "too-many-requests"),
    ),
)
async def enrol(request: Request) -> Response:
    account = account_of(request)
    account.kind = "enrol"
    enrolled = await coordinator_of(request).access.enrol(await read_message(request, Enrolment))
    account.client = enrolled.client
    return respond(request, enrolled, 201)


@router.get("/v1/clients", **describe("All clients, by name", gives=ClientList, problems=("not-allowed",)))
async def clients(request: Request) -> Response:
    coordinator = coordinator_of(request)
    require_operator(request)
    views = []
    for name, client in sorted(coordinator.access.clients.items()):
        seen = coordinator.presence.find(name)
        views.append(
            ClientView(
                client=name,
                group=client.group,
                role=client.role,
                revoked=client.revoked,
                seen_at=None if seen is None else seen.wall,
            )
        )
    return respond(request, ClientList(clients=views))


@router.delete(
    "/v1/clients/{name}",
    **describe(
        "Revoke a client: its token is worth nothing from now on", status=204, problems=("not-allowed", "not-found")
    ),
)
async def revoke(
    request: Request,
    name: ClientName,
    invite: Annotated[bool, Query(description="the invite it came with is worth nothing either")] = False,
) -> Response:
    coordinator = coordinator_of(request)
    require_operator(request)
    await coordinator.revoke(name, invite=invite)
    return empty(204)


@router.post(
    "/v1/clients/{name}/token",
    **describe(
        "Replace the token of the client that asks; the old one is worth nothing from now on",
        gives=Enrolled,
        status=201,
        problems=("not-allowed", "too-many-requests"),
    ),
)
async def rotate(request: Request, name: ClientName) -> Response:
    account = account_of(request)
    account.kind = "enrol"
    coordinator = coordinator_of(request)
    enrolled = await coordinator.access.rotate(asker(request), name)
    account.client = name
    coordinator.presence.wake(name)  # a poll that was parked with the old token ends
    coordinator.uploads.stop(name)
    coordinator.downloads.cut(name)
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
    coordinator = coordinator_of(request)
    require_operator(request)
    if not asker(request).owner:
        raise ProblemError("not-allowed", "only the operator of the data folder may replace its token")
    return respond(request, coordinator.access.rotate_operator(), 201)


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
    coordinator = coordinator_of(request)
    require_operator(request)
    return respond(request, await coordinator.access.invite(await read_message(request, InviteRequest)), 201)
