"""Routes of pages: each at its address and, as JSON, at the same with `.json`; whoever may not see one is led to the
form where a token is shown.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from starlette.responses import RedirectResponse

from thinwire.coordinator.wire.identity import require_reader
from thinwire.coordinator.wire.negotiation import read_body
from thinwire.coordinator.wire.problems import GUESSES
from thinwire.protocol.reasons import REASONS, ProblemError

from .rendering import TWIN, show, wants_json

MAX_FORM_BYTES: Final = 16 << 10
Handler = Callable[..., Awaitable[Response]]


def page(router: APIRouter, path: str, twin: str | None = None) -> Callable[[Handler], Handler]:
    """A page at this path that readers may see. `twin`: the path of its JSON, where it is not `path` with `.json`."""

    def register(handler: Handler) -> Handler:
        guarded = _guarded(handler)
        for address in (twin or f"{path}{TWIN}", path):
            router.add_api_route(address, guarded, methods=["GET"], include_in_schema=False)
        return handler

    return register


def _guarded(handler: Handler) -> Handler:
    from functools import wraps

    @wraps(handler)
    async def guarded(request: Request, **given: Any) -> Response:
        try:
            require_reader(request)
            return await handler(request, **given)
        except ProblemError as error:
            return refusal(request, error)

    return guarded


def refusal(request: Request, error: ProblemError) -> Response:
    """What is told of a problem: a page to people, a `Problem` to programs. Raises it where it is a program's, or a
    guess, which is counted.
    """
    if wants_json(request) or (error.reason in GUESSES and request.method == "POST"):
        raise error
    if error.reason in ("token-missing", "token-invalid") and request.method == "GET":
        query = f"?{request.url.query}" if request.url.query else ""
        return RedirectResponse(f"/login?next={quote(request.url.path + query)}", 303)
    return show(request, "problem.html", error, error.status, meaning=REASONS[error.reason].meaning)


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form that was sent, each once. Raises: `unsupported-media-type`, `message-too-large`,
    `bad-request`.
    """
    from urllib.parse import parse_qsl

    given = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if given != "application/x-www-form-urlencoded":
        raise ProblemError("unsupported-media-type", "forms are sent as application/x-www-form-urlencoded")
    body = await read_body(request, MAX_FORM_BYTES)
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, strict_parsing=bool(body), max_num_fields=100))
    except ValueError:
        raise ProblemError("bad-request", "the form cannot be read") from None
