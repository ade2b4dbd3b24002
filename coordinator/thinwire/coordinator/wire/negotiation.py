"""Bodies in and out: msgpack or JSON, by Content-Type and Accept; sizes bounded before reading."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final, TypeVar

from fastapi import Request, Response
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from thinwire.protocol.encoding import JSON, MSGPACK, decode_message, encode_message
from thinwire.protocol.messages import MAX_MESSAGE_BYTES
from thinwire.protocol.reasons import ProblemError

from .identity import ASKER, asker
from .sink import SINK, Sink

STRANGERS_BYTES: Final = 4 << 10
"""Of a body that is kept before it is known who sends it: room for an enrolment."""

MessageT = TypeVar("MessageT", bound=BaseModel)
_RANGES: Final = ("application/*", "*/*")
_WEIGHT: Final = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?", re.ASCII)


def request_type(request: Request) -> str:
    """MSGPACK or JSON (also where nothing is said). Raises: `unsupported-media-type`."""
    given = request.headers.get("content-type", JSON).split(";")[0].strip().lower()
    if given not in (JSON, MSGPACK):
        raise ProblemError("unsupported-media-type", f"{given[:80]!r}: send {MSGPACK} or {JSON}")
    return given


def response_type(request: Request) -> str:
    """What the peer wants most of what we write (RFC 9110, section 12.5.1). Among what it wants alike: what it names,
    msgpack before JSON; where it names neither, what it sent. Raises: `not-acceptable`.
    """
    weights = _weights(request)
    sent = request.headers.get("content-type", "").split(";")[0].strip().lower()

    def liking(media_type: str) -> tuple[float, bool, bool]:
        ranges = (media_type, *_RANGES)
        weight = next((weights[one] for one in ranges if one in weights), 0.0)  # the most specific one counts
        named = media_type in weights
        return weight, named, media_type == (MSGPACK if named or sent == MSGPACK else JSON)

    best = max((MSGPACK, JSON), key=liking)
    if not liking(best)[0]:
        raise ProblemError("not-acceptable")
    return best


def _weights(request: Request) -> dict[str, float]:
    """Media range -> weight, 0 for what is not accepted. What is no weight counts as none given, which is 1."""
    found: dict[str, float] = {}
    for part in ",".join(request.headers.getlist("accept")).lower().split(","):
        media_range, *parameters = (piece.strip() for piece in part.split(";"))
        if media_range:
            given = next((value for name, _, value in map(_parameter, parameters) if name == "q"), "1")
            found[media_range] = float(given) if _WEIGHT.fullmatch(given) else 1.0
    return found or {"*/*": 1.0}


def _parameter(text: str) -> tuple[str, str, str]:
    name, equals, value = text.partition("=")
    return name.strip(), equals, value.strip()


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body. Raises: `message-too-large`, before more than that is held in memory, or more than
    `STRANGERS_BYTES` of somebody who has not shown a token that is one.
    """
    if ASKER in request.scope and not asker(request).known:
        max_bytes = min(max_bytes, STRANGERS_BYTES)
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
    no byte comes for the sink's `stalled_after_s`; what `take` raises.
    """
    loop = asyncio.get_running_loop()
    sink: Sink = request.scope.get(SINK) or Sink()
    sink.moved_at, sink.take = loop.time(), take
    more = True
    try:
        while more:
            try:
                async with asyncio.timeout_at(sink.stalls_at):
                    message = await request.receive()
            except TimeoutError:
                if sink.stalls_at is None or sink.stalls_at > loop.time():
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


async def read_message_if_any(request: Request, kind: type[MessageT]) -> MessageT | None:
    """The message in a body that may be left out. Raises: as `read_message`."""
    body = await read_body(request, MAX_MESSAGE_BYTES)
    response_type(request)
    return decode_message(kind, body, request_type(request)) if body else None


def respond(request: Request, message: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The message as the peer wants it."""
    media_type = response_type(request)
    return Response(encode_message(message, media_type), status, headers, media_type)


def empty(status: int, headers: dict[str, str] | None = None) -> Response:
    """A response without a body, hence without a content type."""
    return Response(None, status, headers)
