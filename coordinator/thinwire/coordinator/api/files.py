"""Write-once files: ETag, 304, ranges."""

from __future__ import annotations

import os
from pathlib import Path

from fastapi import Request, Response
from starlette.responses import FileResponse
from starlette.types import Message, Receive, Scope, Send

from thinwire.coordinator.accounting import account_of
from thinwire.coordinator.negotiation import empty


def is_unchanged(request: Request, tag: str) -> bool:
    """Whether the peer has it already (`If-None-Match`)."""
    given = request.headers.get("if-none-match")
    if given is None:
        return False
    return given.strip() == "*" or tag in [part.strip().removeprefix("W/") for part in given.split(",")]


class Counted(FileResponse):
    """A file whose bytes are charged as payload, whatever range of it is sent."""

    def __init__(self, request: Request, path: Path, digest: bytes, *, private: bool) -> None:
        cache = "private" if private else "public"
        super().__init__(
            path,
            headers={"etag": f'"{digest.hex()}"', "cache-control": f"{cache}, max-age=31536000, immutable"},
            media_type="application/octet-stream",
            stat_result=os.stat(path),
        )
        self._account = account_of(request)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def counting(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The tag says all that a date could.
                message["headers"] = [pair for pair in message["headers"] if pair[0] != b"last-modified"]
            elif message["type"] == "http.response.body":
                self._account.downlink_payload += len(message.get("body", b""))
            await send(message)

        # Without this Starlette may hand the path to the server, which sends it uncounted.
        scope = {**scope, "extensions": {}}
        await super().__call__(scope, receive, counting)


def serve_file(request: Request, path: Path, digest: bytes, *, private: bool) -> Response:
    """The file, a range of it, or 304."""
    tag = f'"{digest.hex()}"'
    if is_unchanged(request, tag):
        return empty(304, {"etag": tag})
    return Counted(request, path, digest, private=private)
