"""Models and runs: create, watch, command, read results."""

from __future__ import annotations

import contextlib
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from thinwire.coordinator.runs.rows import RunCommand as Command
from thinwire.coordinator.serve.attendance import LATEST, MOST_EXCHANGES, Attendances
from thinwire.coordinator.serve.commands import Commands
from thinwire.coordinator.serve.models import FinalModel, Models, Take
from thinwire.coordinator.serve.reads import Reads, Sums
from thinwire.coordinator.wire.accounting import account_of
from thinwire.coordinator.wire.auditing import tell_detail
from thinwire.coordinator.wire.documentation import BYTES, describe, header
from thinwire.coordinator.wire.downloads import Downloads
from thinwire.coordinator.wire.files import serve_copy, serve_file
from thinwire.coordinator.wire.identity import require_client, require_operator, require_reader
from thinwire.coordinator.wire.listing import respond_with, respond_with_csv, wants_csv
from thinwire.coordinator.wire.negotiation import empty, read_message, respond, take_body
from thinwire.protocol.messages import (
    AttendanceList,
    Ledger,
    LedgerRow,
    RunChange,
    RunCommand,
    RunList,
    RunMetrics,
    RunRequest,
    RunView,
    StoredModel,
)
from thinwire.protocol.reasons import ProblemError

from .parts import RunKey, of

router = APIRouter(tags=["runs"])


@router.post(
    "/v1/models",
    **describe(
        "Store a model: a safetensors file",
        takes=BYTES,
        gives=StoredModel,
        status=201,
        problems=("not-allowed", "message-too-large", "run-invalid", "storage-full", "storage-failed"),
    ),
)
async def store_model(request: Request) -> Response:
    models = of(request, Models)
    require_operator(request)

    async def receive(take: Take) -> None:
        try:
            await take_body(request, take)
        except (ClientDisconnect, TimeoutError):
            raise ProblemError("bad-request", "the body ended early, or stood still for too long") from None

    return respond(request, await models.store(receive), 201)


@router.post(
    "/v1/runs",
    **describe(
        "Create a run; it starts when its clients are there",
        takes=RunRequest,
        gives=RunView,
        status=201,
        problems=("not-allowed", "run-exists", "run-invalid", "too-many-requests"),
    ),
)
async def create(request: Request) -> Response:
    commands, reads = of(request, Commands), of(request, Reads)
    require_operator(request)
    row = await commands.create_run(await read_message(request, RunRequest))
    return respond(request, await reads.view(row), 201)


@router.get("/v1/runs", **describe("All runs, the newest first", gives=RunList))
async def runs(request: Request) -> Response:
    return respond(request, await _reads(request).runs())


def _reads(request: Request) -> Reads:
    """For whoever may read."""
    reads = of(request, Reads)
    require_reader(request)
    return reads


@router.get("/v1/runs/{run}", **describe("One run", gives=RunView, problems=("run-not-found",)))
async def show(request: Request, run: RunKey) -> Response:
    return respond(request, await _reads(request).run(run))


@router.delete(
    "/v1/runs/{run}",
    **describe(
        "Delete a run that is over, its model and figures with it",
        status=204,
        problems=("not-allowed", "run-not-found", "run-state", "storage-failed", "storage-full"),
    ),
)
async def delete(request: Request, run: RunKey) -> Response:
    commands = of(request, Commands)
    require_operator(request)
    await commands.delete(run)
    return empty(204)


async def _command(request: Request, key: str, finish: Command, drop: Command) -> Response:
    """The one command or the other, by what is said of the open exchange."""
    commands, reads = of(request, Commands), of(request, Reads)
    require_operator(request)
    run = await reads.find(key)
    body = await read_message(request, RunCommand)
    row = await commands.command(run.id, drop if body.open == "drop" else finish)
    return respond(request, await reads.view(row))


_COMMAND_PROBLEMS = ("not-allowed", "run-not-found", "run-state", "storage-failed")


@router.post(
    "/v1/runs/{run}/pause",
    **describe(
        "Pause, behind the open exchange or at once", takes=RunCommand, gives=RunView, problems=_COMMAND_PROBLEMS
    ),
)
async def pause(request: Request, run: RunKey) -> Response:
    return await _command(request, run, "pause", "pause-drop")


@router.post(
    "/v1/runs/{run}/resume",
    **describe("Go on", takes=RunCommand, gives=RunView, problems=_COMMAND_PROBLEMS),
)
async def resume(request: Request, run: RunKey) -> Response:
    return await _command(request, run, "resume", "resume")


@router.post(
    "/v1/runs/{run}/stop",
    **describe(
        "Stop, behind the open exchange or at once", takes=RunCommand, gives=RunView, problems=_COMMAND_PROBLEMS
    ),
)
async def stop(request: Request, run: RunKey) -> Response:
    return await _command(request, run, "stop", "stop-drop")


@router.post(
    "/v1/runs/{run}/settings",
    **describe(
        "Give a paused run more rounds, another quorum, deadline or budget, in force when it is resumed",
        takes=RunChange,
        gives=RunView,
        problems=("not-allowed", "run-not-found", "run-state", "run-invalid", "storage-failed"),
    ),
)
async def change(request: Request, run: RunKey) -> Response:
    commands, reads = of(request, Commands), of(request, Reads)
    require_operator(request)
    wanted = await read_message(request, RunChange)
    row = await commands.change(run, wanted)
    tell_detail(request, ", ".join(f"{name} {value}" for name, value in wanted.model_dump(exclude_none=True).items()))
    return respond(request, await reads.view(row))


@router.get(
    "/v1/runs/{run}/attendance",
    **describe("Who was in each of the latest exchanges, by name", gives=AttendanceList, problems=("run-not-found",)),
)
async def attendance(
    request: Request,
    run: RunKey,
    before: Annotated[int | None, Query(ge=0, description="only exchanges before this one")] = None,
    latest: Annotated[int, Query(ge=1, le=MOST_EXCHANGES, description="so many of them")] = LATEST,
) -> Response:
    attendances = of(request, Attendances)
    require_reader(request)
    return respond(request, await attendances.of(run, before, latest))


@router.get(
    "/v1/runs/{run}/ledger",
    **describe("All bytes of a run, as JSON, msgpack or text/csv", gives=Ledger, problems=("run-not-found",)),
)
async def ledger(
    request: Request,
    run: RunKey,
    sums: Annotated[
        Sums | None, Query(description="sums instead of rows: by client and kind, or by kind alone, without links")
    ] = None,
) -> Response:
    rows, links = await _reads(request).ledger(run, sums)
    if wants_csv(request):
        return respond_with_csv(list(LedgerRow.model_fields), rows)
    return respond_with(request, {"rows": rows, "links": links})


@router.get(
    "/v1/runs/{run}/metrics",
    **describe("Every closed exchange, in order", gives=RunMetrics, problems=("run-not-found",)),
)
async def metrics(request: Request, run: RunKey) -> Response:
    return respond_with(request, {"exchanges": await _reads(request).metrics(run)})


@router.get(
    "/v1/runs/{run}/model",
    **describe(
        "The global model as it stands, a safetensors file",
        gives=BYTES,
        also={206: "The range that was asked for", 304: "Unchanged"},
        parameters=[header("Range", "one range of bytes", required=False)],
        problems=("run-not-found", "no-global-model", "range-not-satisfiable", "storage-failed"),
    ),
)
async def model(
    request: Request,
    run: RunKey,
    best: Annotated[
        str | None,
        Query(max_length=32, description="the best one by this score instead; empty: by the first that the run keeps"),
    ] = None,
) -> Response:
    reads, models, downloads = of(request, Reads), of(request, Models), of(request, Downloads)
    found = await reads.find(run)
    with contextlib.suppress(ProblemError):
        client = require_client(request)
        account_of(request).client = client.name
        if client.group == found.group:
            return await _model(request, found.id, best, models, downloads)
    require_reader(request)
    return await _model(request, found.id, best, models, downloads)


async def _model(request: Request, run: str, best: str | None, models: Models, downloads: Downloads) -> Response:
    account = account_of(request)
    account.run, account.kind = run, "other"
    found = await (models.as_it_stands(run) if best is None else models.best(run, best))
    if isinstance(found, FinalModel):
        return serve_file(request, found.path, found.digest, downloads, account, private=True)
    return await serve_copy(request, found.data, found.digest, downloads, account)
