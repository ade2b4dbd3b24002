"""Probes and Prometheus' figures."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from thinwire.coordinator.serve.figures import Figures
from thinwire.coordinator.wire.documentation import describe
from thinwire.coordinator.wire.identity import require_reader
from thinwire.coordinator.wire.negotiation import empty

from .parts import of
from .prometheus import CONTENT_TYPE, exposition

router = APIRouter(tags=["health"])


@router.get("/healthz", **describe("The process lives", token=False))
async def healthz() -> Response:
    return empty(200)


@router.get("/readyz", **describe("It takes requests", token=False, problems=("unavailable",)))
async def readyz(request: Request) -> Response:
    of(request, Figures)
    return empty(200)


@router.get("/metrics", **describe("Prometheus' text format", gives="text/plain"))
async def metrics(request: Request) -> Response:
    figures = of(request, Figures)
    require_reader(request)
    return Response(exposition(await figures.gauges()), 200, {"content-type": CONTENT_TYPE})
