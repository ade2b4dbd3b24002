"""Routes of pages: each at its address and, as JSON, at the same with `.json`; whoever may not see one is led to the
form where a token is shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, quote, urlsplit

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ValidationError
from starlette.responses import RedirectResponse

from thinwire.coordinator.wire.identity import require_reader
from thinwire.coordinator.wire.negotiation import read_body
from thinwire.protocol.reasons import REASONS, ProblemError

from .rendering import TWIN, show, wants_json

MAX_FORM_BYTES: Final = 16 << 10
Handler = Callable[..., Awaitable[Response]]
MessageT = TypeVar("MessageT", bound=BaseModel)


def page(router: APIRouter, path: str, twin: str | None = None) -> Callable[[Handler], Handler]:
    """A page at this path that readers may see. `twin`: the path of its JSON, where it is not `path` with `.json`."""

    def register(handler: Handler) -> Handler:
        guarded = _guarded(handler)
        for address in (twin or f"{path}{TWIN}", path):
            router.add_api_route(address, guarded, methods=["GET"], include_in_schema=False)
        return handler

    return register


def _guarded(handler: Handler) -> Handler:
    @wraps(handler)
    async def guarded(request: Request, **given: Any) -> Response:
        try:
            require_reader(request)
            return await handler(request, **given)
        except ProblemError as error:
            return refusal(request, error)

    return guarded


def refusal(request: Request, error: ProblemError) -> Response:
    """What is told of a problem: to people a page, or the form where they log in. Raises it where a program asks."""
    if wants_json(request) or "text/html" not in request.headers.get("accept", ""):
        raise error
    if error.reason in ("token-missing", "token-invalid"):
        return RedirectResponse(f"/login?next={quote(_came_from(request))}", 303)
    return show(request, "problem.html", error, error.status, meaning=REASONS[error.reason].meaning)


def _came_from(request: Request) -> str:
    """The page that was asked for, or the one whose form was sent."""
    url = request.url if request.method == "GET" else urlsplit(request.headers.get("referer", "/"))
    return f"{url.path}?{url.query}" if url.query else url.path


def checked(kind: type[MessageT], given: Mapping[str, object]) -> MessageT:
    """The message that a form means. Raises: `bad-message`, with the name of the field."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        raise ProblemError("bad-message", f"{first['loc'][0]}: {first['msg']}") from None


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form that was sent, each once. Raises: `unsupported-media-type`, `message-too-large`,
    `bad-request`.
    """
    given = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if given != "application/x-www-form-urlencoded":
        raise ProblemError("unsupported-media-type", "forms are sent as application/x-www-form-urlencoded")
    body = await read_body(request, MAX_FORM_BYTES)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=100))
    except ValueError:
        raise ProblemError("bad-request", "the form cannot be read") from None
