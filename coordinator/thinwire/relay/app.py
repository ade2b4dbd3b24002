"""The relay as an application: what clients ask is answered here where it is kept here, and passed on where it is not.

Pages and the operator's requests are the coordinator's own.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from thinwire.protocol.encoding import JSON, MSGPACK, decode_message
from thinwire.protocol.messages import MAX_INLINE_BYTES, MAX_MESSAGE_BYTES, AnswerMessage, TaskMessage, VerdictMessage
from thinwire.protocol.reasons import ProblemError
from thinwire.protocol.short import decode_short

from .download import Refused
from .link import UNHEARD, Link, read_all
from .passing import asked_for_digests, body_of, pass_on
from .payloads import Payloads
from .problems import problem_response
from .told import Told, token_hash
from .uploads import TUS, Held, Uploads

_FORWARDED_WITHIN_S: Final = 10.0
"""A device that answers waits so long for its upload to cross the link, then asks again: its own network is cheap."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_RANGE: Final = re.compile(r"bytes=(\d{1,18})-(\d{1,18})?", re.ASCII)
_IN_FORCE: Final = {"run": "unsaid", "plan": bytes(32)}
"""In the place of what a short task does not say again."""
_LARGEST: Final = MAX_MESSAGE_BYTES + MAX_INLINE_BYTES
Endpoint = Callable[[Request], Awaitable[Response]]


class Relay:
    """The endpoints. Whoever asks is known by what it shows; only the coordinator knows who that is."""

    def __init__(self, link: Link, payloads: Payloads, uploads: Uploads) -> None:
        self.link = link
        self.payloads = payloads
        self.uploads = uploads
        self.told = Told()

    def routes(self) -> list[Route]:
        """What is answered; everything else is at the coordinator."""
        passed = [
            ("/v1/clients", "POST"), ("/v1/clients/{name}", "DELETE"), ("/v1/clients/{name}/token", "POST"),
            ("/v1/clients/{name}/log", "POST"), ("/v1/pending", "POST"), ("/v1/tasks/{task}/decline", "POST"),
            ("/v1/uploads", "OPTIONS"), ("/v1/uploads/{upload}", "DELETE"),
        ]  # fmt: skip
        own: list[tuple[str, str, Endpoint]] = [
            ("/healthz", "GET", self._alive),
            ("/v1/registrations", "POST", self._register),
            ("/v1/r", "POST", self._register),
            ("/v1/tasks/{task}/answer", "POST", self._answer),
            ("/v1/a/{task}", "POST", self._answer),
            ("/v1/plans/{digest}", "GET", self._payload),
            ("/v1/payloads/{digest}", "GET", self._payload),
            ("/v1/uploads", "POST", self._create),
            ("/v1/uploads/{upload}", "HEAD", self._offset),
            ("/v1/uploads/{upload}", "PATCH", self._append),
        ]
        every = [*((path, method, self._pass) for path, method in passed), *own]
        return [Route(path, _guarded(endpoint), methods=[method]) for path, method, endpoint in every]

    async def _alive(self, _: Request) -> Response:
        return Response()

    async def _pass(self, request: Request) -> Response:
        return await pass_on(request, self.link, body=await body_of(request))

    async def _register(self, request: Request) -> Response:
        body = await body_of(request)
        response = await pass_on(request, self.link, body=body, path=asked_for_digests(request))
        if response.status_code == 200:
            if request.url.path == "/v1/r":
                task = decode_short(TaskMessage, bytes(response.body), {})
            else:
                task = decode_message(TaskMessage, bytes(response.body), _type(response), max_bytes=_LARGEST)
            self.told.note(_device(request), task)
        return response

    async def _answer(self, request: Request) -> Response:
        body, short = await body_of(request), request.url.path.startswith("/v1/a/")
        if short:
            message = decode_short(AnswerMessage, body)
        else:
            media_type = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
            message = decode_message(AnswerMessage, body, media_type, max_bytes=_LARGEST)
        held = self.uploads.find(message.upload, _device(request))
        if held is not None:
            try:
                if not await self.uploads.wait(held, _shown(request), _FORWARDED_WITHIN_S):
                    return Response(status_code=202, headers={"retry-after": "1"})
            except ProblemError as error:
                return problem_response(request, error)
        response = await pass_on(request, self.link, body=body, path=asked_for_digests(request))
        if held is not None and response.status_code != 202 and response.status_code < 500:
            self.uploads.forget(held)
        if response.status_code == 200:
            if short:
                verdict = decode_short(VerdictMessage, bytes(response.body), _IN_FORCE)
            else:
                verdict = decode_message(VerdictMessage, bytes(response.body), _type(response), max_bytes=_LARGEST)
            if verdict.next is not None:
                self.told.note(_device(request), verdict.next)
        return response

    async def _payload(self, request: Request) -> Response:
        """From here, if a task of this device has named it, or else if the coordinator says that it may have it."""
        text, device = request.path_params["digest"], _device(request)
        if _DIGEST.fullmatch(text) is None or not _shown(request):
            return await self._pass(request)
        digest, tag = bytes.fromhex(text), f'"{text}"'
        if not self.told.knows(device, digest) and not await self._may_have(request, text):
            return await self._pass(request)
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers={"etag": tag})
        try:
            size = await self.payloads.size(digest, request.url.path, _shown(request))
        except Refused as refused:
            kind = refused.headers.get("content-type", MSGPACK)
            return Response(refused.body, refused.status, media_type=kind)
        begins, ends, status = 0, size, 200
        if (match := _RANGE.fullmatch(request.headers.get("range", ""))) is not None:
            begins, status = int(match[1]), 206
            ends = size if match[2] is None else min(size, int(match[2]) + 1)
            if begins >= ends:
                raise ProblemError("range-not-satisfiable", f"the file has {size} bytes")
        headers = {
            "etag": tag, "cache-control": "private, max-age=31536000, immutable", "content-length": str(ends - begins),
            "content-type": MSGPACK if "/plans/" in request.url.path else "application/octet-stream",
        }  # fmt: skip
        if status == 206:
            headers["content-range"] = f"bytes {begins}-{ends - 1}/{size}"
        return StreamingResponse(self.payloads.pieces(digest, begins, ends), status, headers)

    async def _may_have(self, request: Request, text: str) -> bool:
        """Asked without the payload: who holds it already is told that it is unchanged, or that it has no right."""
        headers = {"Authorization": _shown(request), "If-None-Match": f'"{text}"'}
        try:
            async with self.link.open("GET", request.url.path, headers) as response:
                await read_all(response)
                return response.status == 304
        except UNHEARD:
            return False

    async def _create(self, request: Request) -> Response:
        length = request.headers.get("upload-length", "")
        response = await self._pass(request)
        if response.status_code == 201 and length.isdecimal():
            upload = response.headers["location"].rstrip("/").rpartition("/")[2]
            self.uploads.note(upload, int(length), _device(request))
        return response

    async def _offset(self, request: Request) -> Response:
        held = self._held(request)
        return Response(headers={**_tus(held), "upload-length": str(held.length), "cache-control": "no-store"})

    async def _append(self, request: Request) -> Response:
        held = self._held(request)
        if request.headers.get("upload-offset") != str(held.offset):
            raise ProblemError("upload-offset", f"the upload stands at {held.offset}")
        if "upload-checksum" in request.headers:
            raise ProblemError("bad-request", "a relay takes no Upload-Checksum: the digest is checked at the end")
        async for piece in request.stream():
            held.append(piece)
        self.uploads.begin(held, _shown(request))
        return Response(status_code=204, headers=_tus(held))

    def _held(self, request: Request) -> Held:
        if request.headers.get("tus-resumable") != TUS:
            raise ProblemError("tus-version")
        held = self.uploads.find(request.path_params["upload"], _device(request))
        if held is None:
            # Created again it is the coordinator's, which goes on where that one stands.
            raise ProblemError("upload-not-found")
        return held


def create_app(relay: Relay) -> Starlette:
    """The ASGI application."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await relay.payloads.stop()
        await relay.uploads.stop()
        await relay.link.close()

    async def elsewhere(request: Request, error: Exception) -> Response:
        reason = "method-not-allowed" if getattr(error, "status_code", 404) == 405 else "not-found"
        return problem_response(
            request, ProblemError(reason, f"of a relay; the coordinator is at {relay.link.address}")
        )

    return Starlette(routes=relay.routes(), lifespan=lifespan, exception_handlers={HTTPException: elsewhere})


def _guarded(endpoint: Endpoint) -> Endpoint:
    """What goes wrong is a `Problem`; nobody reads it who has hung up."""

    async def answered(request: Request) -> Response:
        try:
            return await endpoint(request)
        except ProblemError as error:
            return problem_response(request, error)
        except ClientDisconnect:
            return Response(status_code=400)
        except OSError as error:
            return problem_response(request, ProblemError("storage-failed", f"at the relay: {error.strerror}"))

    return answered


def _shown(request: Request) -> str:
    return request.headers.get("authorization", "")


def _device(request: Request) -> bytes:
    return token_hash(_shown(request))


def _type(response: Response) -> str:
    return response.headers.get("content-type", MSGPACK).partition(";")[0].strip()


def _tus(held: Held) -> dict[str, str]:
    return {"tus-resumable": TUS, "upload-offset": str(held.offset)}
