"""The files that pages load: style, scripts, the library that draws curves. What lies at an address never changes."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Request, Response

from thinwire.coordinator.wire.files import is_unchanged
from thinwire.coordinator.wire.negotiation import empty
from thinwire.protocol.reasons import ProblemError

NAMES: Final = {
    "thinwire.css": "text/css",
    "thinwire.js": "text/javascript",
    "charts.js": "text/javascript",
    "uplot-1.6.32.min.css": "text/css",
    "uplot-1.6.32.min.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_FOLDER: Final = files("thinwire.coordinator.dashboard").joinpath("static")
router = APIRouter(include_in_schema=False)


@cache
def content(name: str) -> tuple[bytes, str]:
    """A file and its digest."""
    data = _FOLDER.joinpath(name).read_bytes()
    return data, hashlib.sha256(data).hexdigest()[:16]


def address(name: str) -> str:
    """Where a page finds the file, as it is now."""
    return f"/static/{name}?{content(name)[1]}"


@router.get("/static/{name}")
async def static(request: Request, name: str) -> Response:
    if name not in NAMES:
        raise ProblemError("not-found")
    data, digest = content(name)
    tag = f'"{digest}"'
    headers = {
        "etag": tag, "cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff",
    }  # fmt: skip
    if is_unchanged(request, tag):
        return empty(304, headers)
    return Response(data, 200, headers, NAMES[name])
