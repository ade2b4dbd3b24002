"""Write-once files: ETag, 304, ranges."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from fastapi import Request, Response
from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from thinwire.protocol.reasons import ProblemError

from .accounting import Account
from .downloads import Downloads
from .meter import METER, Meter
from .negotiation import empty
from .problems import problem_response

_RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{1,18})?|-(\d{1,18}))", re.ASCII)


def is_unchanged(request: Request, tag: str) -> bool:
    """Whether the peer has it already (`If-None-Match`)."""
    given = request.headers.get("if-none-match")
    if given is None:
        return False
    return given.strip() == "*" or tag in [part.strip().removeprefix("W/") for part in given.split(",")]


class Counted(FileResponse):
    """A file whose bytes are charged as payload, whatever range of it is sent; `framing`: not as payload.

    Of a response that is cut only what was handed to the transport is charged. A range that does not begin where the
    file does goes on where an earlier request stopped: what that one carried is shown as resumed.
    """

    # Each piece is read in a thread: in Starlette's 64 KiB the threads cost more than the reading.
    chunk_size = 1 << 18

    def __init__(
        self,
        path: Path,
        digest: bytes,
        media_type: str,
        downloads: Downloads,
        account: Account,
        meter: Meter | None,
        *,
        private: bool,
        framing: bool,
        done: Callable[[], None] = lambda: None,
    ) -> None:
        cache = "private" if private else "public"
        super().__init__(
            path,
            headers={"etag": f'"{digest.hex()}"', "cache-control": f"{cache}, max-age=31536000, immutable"},
            media_type=media_type,
            stat_result=os.stat(path),
        )
        self._account = Account() if framing else account
        self._client = account.client
        self._downloads = downloads
        self._meter = meter
        self._done = done

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The tag says all that a date could.
                message["headers"] = [pair for pair in message["headers"] if pair[0] != b"last-modified"]
                begins = re.match(rb"bytes (\d+)-", dict(message["headers"]).get(b"content-range", b""))
                self._account.resumed = int(begins[1]) if begins else 0
            size = len(message.get("body", b""))
            before = 0 if self._meter is None else self._meter.downlink
            # Before it is sent: with the last one the request is charged.
            self._account.downlink_payload += size
            await send(message)
            if self._meter is not None and size:
                self._account.downlink_payload -= max(0, size - (self._meter.downlink - before))

        # Without this Starlette may hand the path to the server, which sends it uncounted.
        scope = {**scope, "extensions": {}}
        with contextlib.ExitStack() as sending:
            sending.callback(self._done)
            if self._client and self._meter is not None:
                sending.enter_context(self._downloads.carried(self._client, self._meter))
            await super().__call__(scope, receive, counting)


def serve_file(
    request: Request,
    path: Path,
    digest: bytes,
    downloads: Downloads,
    account: Account,
    *,
    private: bool,
    media_type: str = "application/octet-stream",
    framing: bool = False,
) -> Response:
    """The file, a range of it, or 304. `account`: whom its bytes belong to, as payload or, with `framing`, as none;
    `downloads` knows of it while it is sent to a client.
    """
    tag = f'"{digest.hex()}"'
    if is_unchanged(request, tag):
        return empty(304, {"etag": tag})
    refused = _check_range(request, path.stat().st_size, tag)
    if refused is not None:
        return refused
    meter = request.scope.get(METER)
    return Counted(path, digest, media_type, downloads, account, meter, private=private, framing=framing)


async def serve_copy(request: Request, data: bytes, digest: bytes, downloads: Downloads, account: Account) -> Response:
    """As `serve_file`, of what is no file: nobody's slowness keeps it in memory. It is another one soon. Raises:
    OSError.
    """
    tag = f'"{digest.hex()}"'
    if is_unchanged(request, tag):
        return empty(304, {"etag": tag})
    refused = _check_range(request, len(data), tag)
    if refused is not None:
        return refused
    path, meter = await downloads.copy(digest, data), request.scope.get(METER)

    def done() -> None:
        downloads.release(digest)

    response = Counted(
        path, digest, "application/octet-stream", downloads, account, meter, private=True, framing=False, done=done
    )
    response.headers["cache-control"] = "no-store"
    return response


def _check_range(request: Request, size: int, tag: str) -> Response | None:
    """The response to a range outside of the file. What is not one range of bytes is as good as not said (RFC 9110,
    section 14.2): several would be sent as a message of many parts, at the cost of the file for each.
    """
    given = request.headers.get("range")
    if given is None:
        return None
    match = _RANGE.fullmatch(given.strip())
    begins, ends, last = (None if text is None else int(text) for text in match.groups()) if match else (None,) * 3
    if match is None or request.headers.get("if-range", tag) != tag or (ends is not None and ends < (begins or 0)):
        request.scope["headers"] = [pair for pair in request.scope["headers"] if pair[0] != b"range"]
    elif last == 0 or size == 0 or (begins is not None and begins >= size):
        response = problem_response(request, ProblemError("range-not-satisfiable", f"the file has {size} bytes"))
        response.headers["content-range"] = f"bytes */{size}"
        return response
    return None
