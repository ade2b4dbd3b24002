"""Pages of runs: all of them, one of them, some beside each other."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from thinwire.coordinator.api.parts import RunKey, of
from thinwire.coordinator.serve.attendance import Attendances
from thinwire.coordinator.serve.events import Events
from thinwire.coordinator.serve.overview import Overviews

from .rendering import show
from .routing import page

router = APIRouter(include_in_schema=False)


@page(router, "/", "/runs.json")
async def runs(request: Request, page: Annotated[int, Query(ge=1)] = 1) -> Response:
    last = await of(request, Events).last_id()
    return show(request, "runs.html", await of(request, Overviews).runs(page), last=last)


@page(router, "/runs/{run}")
async def run(
    request: Request, run: RunKey, exchange: Annotated[int | None, Query(ge=0, le=1 << 31)] = None
) -> Response:
    last = await of(request, Events).last_id()
    return show(request, "run.html", await of(request, Overviews).run(run, exchange), last=last)


@page(router, "/runs/{run}/rounds")
async def rounds(
    request: Request, run: RunKey, before: Annotated[int | None, Query(ge=0, le=1 << 31)] = None
) -> Response:
    found = await of(request, Attendances).of(run, before, 100)
    return show(request, "rounds.html", found, run=run)


@page(router, "/compare")
async def compare(
    request: Request,
    run: Annotated[list[str] | None, Query(max_length=12)] = None,
    target: Annotated[str, Query(max_length=20)] = "",
    score: Annotated[str | None, Query(max_length=32)] = None,
) -> Response:
    try:
        wanted = float(target) if target else None
    except ValueError:
        wanted = None
    found = await of(request, Overviews).compare(run or [], wanted, score or None)
    return show(request, "compare.html", found, asked=target)
