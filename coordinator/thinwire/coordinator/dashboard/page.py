"""The page at `/`: runs, their curves, bytes by direction and kind. Self-contained: it asks only this coordinator."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from fastapi import APIRouter, Response

PAGE: Final = files("thinwire.coordinator.dashboard").joinpath("templates/page.html").read_bytes()
# The page's own style and script, and requests to where it came from; nothing else.
POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
router = APIRouter(include_in_schema=False)


@router.get("/")
async def page() -> Response:
    """The same for everybody: what it shows, it asks for with the reader's token."""
    headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
    return Response(PAGE, media_type="text/html", headers=headers)
