"""Bodies in and out: msgpack or JSON, by Content-Type and Accept; sizes bounded before reading."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from thinwire.protocol.encoding import JSON, MSGPACK, decode_message, encode_message
from thinwire.protocol.messages import MAX_MESSAGE_BYTES
from thinwire.protocol.reasons import ProblemError

from .reading import SINK, Sink

MessageT = TypeVar("MessageT", bound=BaseModel)


def request_type(request: Request) -> str:
    """MSGPACK or JSON (also where nothing is said). Raises: `unsupported-media-type`."""
    given = request.headers.get("content-type", JSON).split(";")[0].strip().lower()
    if given not in (JSON, MSGPACK):
        raise ProblemError("unsupported-media-type", f"{given[:80]!r}: send {MSGPACK} or {JSON}")
    return given


def response_type(request: Request) -> str:
    """What the peer accepts; without a preference, what it sent. Raises: `not-acceptable`."""
    accept = request.headers.get("accept", "*/*").lower()
    ranges = {part.split(";")[0].strip() for part in accept.split(",") if not part.replace(" ", "").endswith(";q=0")}
    for media_type in (MSGPACK, JSON):
        if media_type in ranges:
            return media_type
    if ranges & {"*/*", "application/*"}:
        sent = request.headers.get("content-type", "").split(";")[0].strip().lower()
        return MSGPACK if sent == MSGPACK else JSON
    raise ProblemError("not-acceptable")


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body. Raises: `message-too-large`, before more than that is held in memory."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise ProblemError("message-too-large", f"{declared} bytes; at most {max_bytes}")
    body = bytearray()

    def take(piece: bytes) -> None:
        body.extend(piece)
        if len(body) > max_bytes:
            raise ProblemError("message-too-large", f"more than {max_bytes} bytes")

    try:
        await take_body(request, take)
    except (ClientDisconnect, TimeoutError):
        raise ProblemError("bad-request", "the body ended early, or stood still for too long") from None
    return bytes(body)


async def take_body(request: Request, take: Callable[[bytes], None]) -> None:
    """Hands each piece of the body to `take` as soon as it has been read. Raises: ClientDisconnect; TimeoutError where
    no byte comes for `stalled_after_s`; what `take` raises.
    """
    stalled_after_s: float = request.app.state.coordinator.settings.stalled_after_s
    loop = asyncio.get_running_loop()
    sink: Sink = request.scope.get(SINK) or Sink()
    sink.moved_at, sink.take = loop.time(), take
    more = True
    try:
        while more:
            try:
                async with asyncio.timeout_at(sink.moved_at + stalled_after_s):
                    message = await request.receive()
            except TimeoutError:
                if sink.moved_at + stalled_after_s > loop.time():
                    continue
                raise
            if sink.error is not None:
                raise sink.error
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            # What came before there was somebody to take it; not to be kept until the end.
            if piece := message.pop("body", b""):
                take(piece)
                sink.moved_at = loop.time()
            del piece
            more = message.get("more_body", False)
    finally:
        sink.take = None


async def read_message(request: Request, kind: type[MessageT], *, max_bytes: int = MAX_MESSAGE_BYTES) -> MessageT:
    """The message in the body. Raises: `bad-request`, `bad-message`, `message-too-large`, `unsupported-media-type`."""
    media_type = request_type(request)
    response_type(request)
    return decode_message(kind, await read_body(request, max_bytes), media_type, max_bytes=max_bytes)


def respond(request: Request, message: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The message as the peer wants it."""
    media_type = response_type(request)
    return Response(encode_message(message, media_type), status, headers, media_type)


def empty(status: int, headers: dict[str, str] | None = None) -> Response:
    """A response without a body, hence without a content type."""
    return Response(None, status, headers)
