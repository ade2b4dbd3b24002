"""Probes and Prometheus' figures."""

from __future__ import annotations

from collections import Counter

from fastapi import APIRouter, Request, Response

from thinwire.coordinator.prometheus import CONTENT_TYPE, Gauges, exposition
from thinwire.coordinator.wire.documentation import describe
from thinwire.coordinator.wire.identity import require_reader
from thinwire.coordinator.wire.negotiation import empty

from .parts import coordinator_of

router = APIRouter(tags=["health"])


@router.get("/healthz", **describe("The process lives", token=False))
async def healthz() -> Response:
    return empty(200)


@router.get("/readyz", **describe("It takes requests", token=False, problems=("unavailable",)))
async def readyz(request: Request) -> Response:
    coordinator_of(request)
    return empty(200)


@router.get("/metrics", **describe("Prometheus' text format", gives="text/plain"))
async def metrics(request: Request) -> Response:
    coordinator = coordinator_of(request)
    require_reader(request)
    states = Counter[str](run.state for run in coordinator.runs.values())
    gauges = Gauges(
        runs={state: states[state] for state in ("pending", "running", "paused", "finished")},
        parked_clients=coordinator.presence.parked,
        open_exchanges=sum(run.open is not None for run in coordinator.runs.values()),
        disk_bytes=await coordinator.compute(coordinator.folder.size_bytes),
    )
    return Response(exposition(coordinator.ledger, gauges), 200, {"content-type": CONTENT_TYPE})
