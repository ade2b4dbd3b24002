"""The page of what lets clients in: invites, and devices that ask without one."""

from __future__ import annotations

import io
from dataclasses import dataclass

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from thinwire.coordinator.api.parts import of
from thinwire.coordinator.api.pending import Code
from thinwire.coordinator.serve.enrolment import Enrolment
from thinwire.coordinator.serve.pending import Pending
from thinwire.coordinator.wire.auditing import tell_detail
from thinwire.coordinator.wire.identity import TAKE_TASKS, require_operator, require_token_to_read
from thinwire.protocol.messages import AcceptRequest, InviteRequest, InviteView, PendingView
from thinwire.protocol.reasons import ProblemError

from .rendering import show
from .routing import checked, form_of, page, refusal

_HOUR_S = 3600.0
router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class LetIn:
    """Who may come, and who would like to."""

    invites: list[InviteView]
    pending: list[PendingView]


async def _view(request: Request) -> LetIn:
    invites, pending = await of(request, Enrolment).invites(), await of(request, Pending).list()
    return LetIn(invites.invites, pending.pending)


@page(router, "/invites")
async def invites(request: Request) -> Response:
    require_token_to_read(request)
    return show(request, "invites.html", await _view(request), made=None)


@router.post("/invites")
async def invite(request: Request) -> Response:
    """The page with the new invite's code, which is shown this once."""
    enrolment = of(request, Enrolment)
    try:
        require_operator(request)
        form = await form_of(request)
        hours = float(form.get("hours") or 0)
        given = {
            "group": form.get("group") or "default", "role": form.get("role") or "client",
            "uses": int(form.get("uses") or 1), "expires_in_s": hours * _HOUR_S or None,
        }  # fmt: skip
        made = await enrolment.invite(checked(InviteRequest, given))
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
    return show(request, "invites.html", await _view(request), made=told)


@router.post("/invites/{invite}/void")
async def void(request: Request, invite: str) -> Response:
    try:
        require_operator(request)
        await of(request, Enrolment).void(invite)
    except ProblemError as error:
        return refusal(request, error)
    return RedirectResponse("/invites", 303)


@router.post("/pending/{code}/accept")
async def accept(request: Request, code: Code) -> Response:
    try:
        require_operator(request)
        form = await form_of(request)
        given = {"group": form.get("group") or "default", "role": form.get("role") or "client"}
        wanted = checked(AcceptRequest, given)
        client = await of(request, Pending).accept(code, wanted)
    except ProblemError as error:
        return refusal(request, error)
    tell_detail(request, f"{client.name}, {wanted.role}, group {wanted.group}")
    return RedirectResponse("/invites", 303)


@router.post("/pending/{code}/refuse")
async def refuse(request: Request, code: Code) -> Response:
    try:
        require_operator(request)
        client = await of(request, Pending).refuse(code)
    except ProblemError as error:
        return refusal(request, error)
    tell_detail(request, client.name)
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
