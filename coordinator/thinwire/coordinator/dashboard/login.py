"""Logging in with a token, and out."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from thinwire.coordinator.api.parts import of
from thinwire.coordinator.serve.enrolment import Enrolment
from thinwire.coordinator.serve.sessions import LASTS_S, Sessions
from thinwire.coordinator.wire.addresses import address_of
from thinwire.coordinator.wire.identity import COOKIE, cookie_of, hash_of
from thinwire.coordinator.wire.negotiation import empty
from thinwire.protocol.reasons import ProblemError

from .rendering import show
from .routing import form_of, refusal

_PEOPLE: Final = ("operator", "reader")
router = APIRouter(include_in_schema=False)


@router.get("/login")
async def login_form(request: Request, next: str = "/") -> Response:
    return show(request, "login.html", {"next": _local(next)}, wrong=False)


@router.post("/login")
async def login(request: Request) -> Response:
    enrolment, sessions = of(request, Enrolment), of(request, Sessions)
    form = await form_of(request)
    token = hash_of(form.get("token", "").strip())
    client = enrolment.find(token)
    if not enrolment.owner.is_owner(token) and (client is None or client.role not in _PEOPLE):
        # Counted as a guess, and told as a page.
        request.app.state.guessed(address_of(request.scope))
        return show(request, "login.html", {"next": _local(form.get("next", "/"))}, 401, wrong=True)
    if client is not None:
        enrolment.used(client.name)
    response = RedirectResponse(_local(form.get("next", "/")), 303)
    response.set_cookie(
        COOKIE, await sessions.begin(token), max_age=int(LASTS_S), httponly=True, samesite="strict",
        secure=_is_secure(request), path="/",
    )  # fmt: skip
    return response


@router.post("/logout")
async def logout(request: Request) -> Response:
    cookie = cookie_of(request.headers)
    try:
        if cookie:
            await of(request, Sessions).end(cookie)
    except ProblemError as error:
        return refusal(request, error)
    response = RedirectResponse("/", 303)
    response.delete_cookie(COOKIE, httponly=True, samesite="strict", path="/")
    return response


@router.get("/favicon.ico")
async def no_icon() -> Response:
    return empty(204)


def _local(path: str) -> str:
    """A place at this coordinator: nobody is led elsewhere."""
    fine = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if fine else "/"


def _is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS, with the coordinator or with a proxy before it."""
    return request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "").lower() == "https"
