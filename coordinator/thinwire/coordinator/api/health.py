"""Probes."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from thinwire.coordinator.documentation import describe
from thinwire.coordinator.negotiation import empty

from .parts import coordinator_of

router = APIRouter(tags=["health"])


@router.get("/healthz", **describe("The process lives", status=200, token=False))
async def healthz() -> Response:
    return empty(200)


@router.get("/readyz", **describe("It takes requests", status=200, token=False, problems=("unavailable",)))
async def readyz(request: Request) -> Response:
    coordinator_of(request)
    return empty(200)
