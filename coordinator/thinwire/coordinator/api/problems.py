"""What is wrong now."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from thinwire.coordinator.serve.problems import Problems
from thinwire.coordinator.wire.documentation import describe
from thinwire.coordinator.wire.identity import require_reader
from thinwire.coordinator.wire.negotiation import respond
from thinwire.protocol.messages import ProblemList

from .parts import of

router = APIRouter(tags=["runs"])


@router.get("/v1/problems", **describe("What stops runs, or soon may, the worst first", gives=ProblemList))
async def problems(request: Request) -> Response:
    found = of(request, Problems)
    require_reader(request)
    return respond(request, await found.now())
