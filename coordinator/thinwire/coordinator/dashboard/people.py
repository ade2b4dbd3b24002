"""Pages of clients: all of them, one of them; how they are called, shutting them out, deleting them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import RedirectResponse

from thinwire.coordinator.api.enrolment import ClientName
from thinwire.coordinator.api.parts import of
from thinwire.coordinator.records.people import Order
from thinwire.coordinator.serve.enrolment import Enrolment
from thinwire.coordinator.serve.labels import Labels
from thinwire.coordinator.serve.people import People
from thinwire.coordinator.serve.uploads import Uploads
from thinwire.coordinator.wire.auditing import tell_detail
from thinwire.coordinator.wire.identity import require_operator, require_token_to_read
from thinwire.protocol.messages import ClientLabel
from thinwire.protocol.reasons import ProblemError

from .rendering import show
from .routing import checked, form_of, page, refusal

router = APIRouter(include_in_schema=False)


@page(router, "/clients")
async def clients(
    request: Request,
    about: Annotated[str, Query(max_length=64)] = "",
    order: Order = "name",
    backwards: bool = False,
    revoked: bool = False,
    page: Annotated[int, Query(ge=1, le=10_000)] = 1,
) -> Response:
    require_token_to_read(request)
    found = await of(request, People).page(about, order, page, backwards=backwards, revoked=revoked)
    chosen = {"about": about, "order": order, "backwards": backwards, "revoked": revoked}
    return show(request, "clients.html", found, chosen=chosen)


@page(router, "/clients/{name}")
async def client(request: Request, name: ClientName) -> Response:
    require_token_to_read(request)
    known = of(request, Labels).known(name)
    return show(request, "client.html", await of(request, People).one(known.name))


@router.post("/clients/{name}/revoke")
async def revoke(request: Request, name: ClientName) -> Response:
    try:
        require_operator(request)
        known = of(request, Labels).known(name).name
        await of(request, Enrolment).revoke(known)
        await of(request, Uploads).release_client(known)
    except ProblemError as error:
        return refusal(request, error)
    return RedirectResponse("/clients", 303)


@router.post("/clients/{name}/delete")
async def delete(request: Request, name: ClientName) -> Response:
    try:
        require_operator(request)
        known = of(request, Labels).known(name).name
        await of(request, Enrolment).delete(known)
        await of(request, Uploads).release_client(known)
    except ProblemError as error:
        return refusal(request, error)
    return RedirectResponse("/clients?revoked=true", 303)


@router.post("/clients/{name}/rename")
async def rename(request: Request, name: ClientName) -> Response:
    """An empty label: it is called by its name again."""
    try:
        require_operator(request)
        label = (await form_of(request)).get("label", "").strip() or None
        client = await of(request, Labels).rename(name, checked(ClientLabel, {"label": label}).label)
    except ProblemError as error:
        return refusal(request, error)
    tell_detail(request, client.label or client.name)
    return RedirectResponse(f"/clients/{client.name}", 303)
