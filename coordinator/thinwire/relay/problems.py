"""What a relay itself has to say to a device, in the one shape of every error."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from thinwire.protocol.encoding import JSON, MSGPACK, encode_message
from thinwire.protocol.messages import Problem
from thinwire.protocol.reasons import ProblemError

AGAIN_S = 2
"""After so long a device asks again where the link has broken."""


def problem_response(request: Request, error: ProblemError) -> Response:
    """The response to a request that failed here."""
    named = request.headers.get("accept", ""), request.headers.get("content-type", "")
    media_type = MSGPACK if any(MSGPACK in one for one in named) else JSON
    problem = Problem(reason=error.reason, detail=error.detail, retry=error.retry)
    headers = {"retry-after": str(AGAIN_S)} if error.retry else {}
    return Response(encode_message(problem, media_type), error.status, headers, media_type)


def unheard(error: Exception) -> ProblemError:
    """The coordinator was not heard over the link."""
    return ProblemError("unavailable", f"the relay does not reach its coordinator: {type(error).__name__}")
