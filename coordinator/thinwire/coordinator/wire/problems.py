"""Every error in one shape: `Problem`, with a reason of the closed table; never a traceback to a peer."""

from __future__ import annotations

import math
from collections.abc import Callable
from http import HTTPStatus
from typing import Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from thinwire.protocol.encoding import JSON, encode_message
from thinwire.protocol.messages import Problem
from thinwire.protocol.reasons import ProblemError

from .addresses import address_of
from .negotiation import response_type

_BY_STATUS = {
    HTTPStatus.NOT_FOUND: "not-found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method-not-allowed",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "message-too-large",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "range-not-satisfiable",
}
GUESSES: Final = frozenset({"token-invalid", "invite-invalid"})
"""Problems of those who do not belong here: they have shown a token or an invite that is none."""


def problem_response(request: Request, error: ProblemError, *, model: bytes | None = None) -> Response:
    """The response to a request that failed."""
    try:
        media_type = response_type(request)
    except ProblemError:  # an error is readable even to a peer that accepts nothing we write
        media_type = JSON
    problem = Problem(reason=error.reason, detail=error.detail, retry=error.retry, model=model)
    headers = {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after_s))
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if request.url.path.startswith("/v1/uploads"):
        headers["tus-resumable"] = "1.0.0"
    if error.reason == "tus-version":
        headers["tus-version"] = "1.0.0"
    return Response(encode_message(problem, media_type), error.status, headers, media_type)


def install(app: FastAPI, *, guessed: Callable[[str], None], failed: Callable[[OSError], ProblemError]) -> None:
    """Makes every error of this application a `Problem`. `guessed`: is told the address that one of `GUESSES` came
    from; `failed`: the problem of an `OSError`.
    """

    @app.exception_handler(ProblemError)
    async def _problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)  # noqa: S101 (Starlette calls with what is registered)
        if error.reason in GUESSES:
            guessed(address_of(request.scope))
        return problem_response(request, error)

    @app.exception_handler(RequestValidationError)
    async def _validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"])
        return problem_response(request, ProblemError("bad-message", f"{where}: {first['msg']}"))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        reason = _BY_STATUS.get(HTTPStatus(error.status_code), "bad-request")
        response = problem_response(request, ProblemError(reason))
        for name, value in (error.headers or {}).items():
            response.headers[name] = value
        return response

    @app.exception_handler(OSError)
    async def _storage(request: Request, error: Exception) -> Response:
        assert isinstance(error, OSError)  # noqa: S101
        return problem_response(request, failed(error))

    @app.exception_handler(Exception)
    async def _internal(request: Request, error: Exception) -> Response:
        return problem_response(request, ProblemError("internal"))
