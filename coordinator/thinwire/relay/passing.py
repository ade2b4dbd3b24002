"""Requests that go on over the link as they came, and what comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from thinwire.protocol.reasons import ProblemError

from .link import LARGEST_BODY, UNHEARD, Link, plain_headers, read_all
from .problems import problem_response, unheard

_UP: Final = (
    "authorization", "content-type", "accept", "if-none-match", "range", "tus-resumable", "upload-length",
    "upload-metadata",
)  # fmt: skip
_DOWN: Final = (
    "content-type", "retry-after", "etag", "cache-control", "content-range", "www-authenticate", "location",
    "tus-resumable", "tus-version", "tus-extension", "tus-checksum-algorithm", "upload-expires", "upload-offset",
    "upload-length",
)  # fmt: skip


async def body_of(request: Request) -> bytes:
    """The body of a message. Raises: `message-too-large`, `ClientDisconnect`."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > LARGEST_BODY:
            raise ProblemError("message-too-large", f"more than {LARGEST_BODY} bytes")
    return bytes(body)


def headers_of(request: Request, *, but: tuple[str, ...] = ()) -> dict[str, str]:
    """Those that the coordinator reads."""
    return {name: request.headers[name] for name in _UP if name in request.headers and name not in but}


def asked_for_digests(request: Request) -> str:
    """The request's address, which says that payloads are to come by digest: so they cross the link once for all."""
    query = request.query_params.multi_items()
    kept = [f"{name}={value}" for name, value in query if name != "inline"]
    return f"{request.url.path}?{'&'.join([*kept, 'inline=0'])}"


async def pass_on(request: Request, link: Link, *, body: bytes, path: str | None = None) -> Response:
    """The coordinator's response; `unavailable` where it is not heard. A device that hangs up ends its request there,
    too. Raises: `ClientDisconnect`.
    """
    address = path or request.url.path + (f"?{request.url.query}" if request.url.query else "")
    asking = asyncio.ensure_future(_ask(request.method, link, address, headers_of(request), body, _rests_s(request)))
    leaving = asyncio.ensure_future(_hung_up(request))
    try:
        await asyncio.wait((asking, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            raise ClientDisconnect
        return asking.result()
    except UNHEARD as error:
        return problem_response(request, unheard(error))
    finally:
        for one in (asking, leaving):
            one.cancel()
            with contextlib.suppress(asyncio.CancelledError, *UNHEARD):
                await one


async def _ask(method: str, link: Link, path: str, headers: Mapping[str, str], body: bytes, rests_s: float) -> Response:
    async with link.open(method, path, headers, body or None, rests_s=rests_s) as response:
        found = plain_headers(response)
        content = await read_all(response)
    return Response(content, response.status, {name: found[name] for name in _DOWN if name in found})


def _rests_s(request: Request) -> float:
    try:
        return min(600.0, max(0.0, float(request.query_params.get("wait_s", "0"))))
    except ValueError:
        return 0.0


async def _hung_up(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
