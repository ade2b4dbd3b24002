"""What happens, as it happens: server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.responses import StreamingResponse

from thinwire.coordinator.serve.events import Events
from thinwire.coordinator.serve.reads import Reads
from thinwire.coordinator.wire.documentation import describe
from thinwire.coordinator.wire.identity import ask_again, require_reader

from .parts import RunKey, of

EVENTS = "text/event-stream"
# Without the last one a proxy keeps them until there are enough of them.
HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
router = APIRouter(tags=["runs"])


@router.get("/v1/runs/{run}/events", **describe("Server-sent events", gives=EVENTS, problems=("run-not-found",)))
async def events(request: Request, run: RunKey) -> Response:
    told, reads = of(request, Events), of(request, Reads)
    require_reader(request)
    row = await reads.find(run)
    return _stream(told.of(row.id, _last_seen(request), _check(request)))


@router.get("/v1/events", **describe("Server-sent events of all runs, each once; their ids rise by one", gives=EVENTS))
async def all_events(
    request: Request,
    after: Annotated[int | None, Query(ge=0, le=1 << 53, description="as Last-Event-ID, where none is sent")] = None,
) -> Response:
    told = of(request, Events)
    require_reader(request)
    last = _last_seen(request)
    return _stream(told.of_all(after if last is None else last, _check(request)))


def _last_seen(request: Request) -> int | None:
    seen = request.headers.get("last-event-id", "")
    return int(seen) if seen.isascii() and seen.isdecimal() and len(seen) <= 18 else None


def _check(request: Request) -> Callable[[], None]:
    def check() -> None:
        ask_again(request)
        require_reader(request)

    return check


def _stream(events: AsyncIterator[bytes]) -> Response:
    return StreamingResponse(events, headers=HEADERS, media_type=EVENTS)
