"""Pages of clients and of what lets them in."""

from __future__ import annotations

import io
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from starlette.responses import RedirectResponse

from thinwire.coordinator.api.parts import of
from thinwire.coordinator.records.people import Order
from thinwire.coordinator.serve.enrolment import Enrolment
from thinwire.coordinator.serve.people import People
from thinwire.coordinator.serve.uploads import Uploads
from thinwire.coordinator.wire.auditing import tell_detail
from thinwire.coordinator.wire.identity import TAKE_TASKS, require_operator, require_token_to_read
from thinwire.protocol.messages import InviteRequest
from thinwire.protocol.reasons import ProblemError

from .rendering import show
from .routing import form_of, page, refusal

_HOUR_S = 3600.0
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


@router.post("/clients/{name}/revoke")
async def revoke(request: Request, name: str) -> Response:
    try:
        require_operator(request)
        await of(request, Enrolment).revoke(name)
        await of(request, Uploads).release_client(name)
    except ProblemError as error:
        return refusal(request, error)
    return RedirectResponse("/clients", 303)


@page(router, "/invites")
async def invites(request: Request) -> Response:
    require_token_to_read(request)
    return show(request, "invites.html", await of(request, Enrolment).invites(), made=None)


@router.post("/invites")
async def invite(request: Request) -> Response:
    """The page with the new invite's code, which is shown this once."""
    enrolment = of(request, Enrolment)
    try:
        require_operator(request)
        form = await form_of(request)
        hours = float(form.get("hours") or 0)
        try:
            wanted = InviteRequest.model_validate(
                {
                    "group": form.get("group") or "default", "role": form.get("role") or "client",
                    "uses": int(form.get("uses") or 1), "expires_in_s": hours * _HOUR_S or None,
                }
            )  # fmt: skip
        except ValidationError as error:
            first = error.errors()[0]
            raise ProblemError("bad-message", f"{first['loc'][0]}: {first['msg']}") from None
        made = await enrolment.invite(wanted)
    except ValueError:
        return refusal(request, ProblemError("bad-message", "uses and hours are numbers"))
    except ProblemError as error:
        return refusal(request, error)
    tell_detail(request, f"{made.role}, group {made.group}, {made.uses} uses")
    url = str(request.base_url).rstrip("/")
    # Not in the command: what stands there is in the history of the shell, and in the list of processes.
    program = "thinwire-client join" if made.role in TAKE_TASKS else "thinwire login"
    command = f"{program} {url} --invite-file invite.txt"
    told = {"invite": made, "command": command, "picture": _picture(f"{url}\n{made.invite}"), "url": url}
    return show(request, "invites.html", await enrolment.invites(), made=told)


@router.post("/invites/{invite}/void")
async def void(request: Request, invite: str) -> Response:
    try:
        require_operator(request)
        await of(request, Enrolment).void(invite)
    except ProblemError as error:
        return refusal(request, error)
    return RedirectResponse("/invites", 303)


def _picture(text: str) -> str:
    """A QR code, as SVG."""
    import segno

    out = io.BytesIO()
    segno.make(text, error="m").save(
        out, kind="svg", xmldecl=False, svgns=False, omitsize=True, svgclass="qr", lineclass=None, border=0,
        title="address and invite",
    )  # fmt: skip
    return out.getvalue().decode()
