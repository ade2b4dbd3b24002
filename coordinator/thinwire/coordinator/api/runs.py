"""Models and runs: create, watch, command, read results."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import hashlib
import io
import os
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response
from safetensors.numpy import save
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from thinwire.coordinator.coordinator import Coordinator
from thinwire.coordinator.ledger_store import load_places
from thinwire.coordinator.plans import read_model
from thinwire.coordinator.repair import final_model
from thinwire.coordinator.runs import Run
from thinwire.coordinator.wire.accounting import account_of
from thinwire.coordinator.wire.documentation import BYTES, describe, header
from thinwire.coordinator.wire.files import serve_copy, serve_file
from thinwire.coordinator.wire.identity import ask_again, require_client, require_operator, require_reader
from thinwire.coordinator.wire.negotiation import read_message, respond, take_body
from thinwire.protocol.messages import (
    Ledger,
    LedgerRow,
    LinkRow,
    RunCommand,
    RunList,
    RunMetrics,
    RunRequest,
    RunView,
    StoredModel,
)
from thinwire.protocol.reasons import ProblemError

from .parts import RunKey, coordinator_of

EVENTS = "text/event-stream"
HEARTBEAT_S = 15.0
MAX_PENDING_EVENTS = 1000
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
    coordinator = coordinator_of(request)
    require_operator(request)
    most = coordinator.settings.max_model_bytes
    await coordinator.measure_disk()
    promised = coordinator.uploads.promised_bytes
    coordinator.quotas.check_disk(promised, 1)
    path, digest, size = coordinator.folder.temporary("models"), hashlib.sha256(), 0
    try:
        with path.open("wb") as file:

            def take(piece: bytes) -> None:
                nonlocal size
                size += len(piece)
                if size > most:
                    raise ProblemError("message-too-large", f"a model of more than {most} bytes")
                coordinator.quotas.check_disk(promised, size)
                digest.update(piece)
                file.write(piece)

            await take_body(request, take)
            file.flush()
            await coordinator.compute(os.fsync, file.fileno())
        model = await coordinator.compute(read_model, path)
        path.replace(coordinator.folder.model(digest.digest()))
    except (ClientDisconnect, TimeoutError):
        raise ProblemError("bad-request", "the body ended early, or stood still for too long") from None
    finally:
        path.unlink(missing_ok=True)
    parameters = sum(array.size for array in model.values())
    return respond(request, StoredModel(digest=digest.digest(), parameters=parameters), 201)


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
    coordinator = coordinator_of(request)
    require_operator(request)
    run = await coordinator.create_run(await read_message(request, RunRequest))
    return respond(request, run.view(), 201)


@router.get("/v1/runs", **describe("All runs, the newest first", gives=RunList))
async def runs(request: Request) -> Response:
    coordinator = coordinator_of(request)
    require_reader(request)
    newest = sorted(coordinator.runs.values(), key=lambda run: run.created_at, reverse=True)
    return respond(request, RunList(runs=[run.view() for run in newest]))


def _read(request: Request, key: str) -> tuple[Coordinator, Run]:
    coordinator = coordinator_of(request)
    require_reader(request)
    run = coordinator.run(key)
    return coordinator, run


@router.get("/v1/runs/{run}", **describe("One run", gives=RunView, problems=("run-not-found",)))
async def show(request: Request, run: RunKey) -> Response:
    return respond(request, _read(request, run)[1].view())


async def _command(request: Request, key: str, command: str) -> Response:
    coordinator = coordinator_of(request)
    require_operator(request)
    run = coordinator.run(key)
    body = await read_message(request, RunCommand)
    await coordinator.command(run, command, drop=body.open == "drop")
    return respond(request, run.view())


_COMMAND_PROBLEMS = ("not-allowed", "run-not-found", "run-state", "storage-failed")


@router.post(
    "/v1/runs/{run}/pause",
    **describe(
        "Pause, behind the open exchange or at once", takes=RunCommand, gives=RunView, problems=_COMMAND_PROBLEMS
    ),
)
async def pause(request: Request, run: RunKey) -> Response:
    return await _command(request, run, "pause")


@router.post(
    "/v1/runs/{run}/resume",
    **describe("Go on", takes=RunCommand, gives=RunView, problems=_COMMAND_PROBLEMS),
)
async def resume(request: Request, run: RunKey) -> Response:
    return await _command(request, run, "resume")


@router.post(
    "/v1/runs/{run}/stop",
    **describe(
        "Stop, behind the open exchange or at once", takes=RunCommand, gives=RunView, problems=_COMMAND_PROBLEMS
    ),
)
async def stop(request: Request, run: RunKey) -> Response:
    return await _command(request, run, "stop")


@router.get("/v1/runs/{run}/events", **describe("Server-sent events", gives=EVENTS, problems=("run-not-found",)))
async def events(request: Request, run: RunKey) -> Response:
    coordinator, found = _read(request, run)
    return StreamingResponse(
        _events(request, coordinator, found), headers={"cache-control": "no-store"}, media_type=EVENTS
    )


async def _events(request: Request, coordinator: Coordinator, run: Run) -> AsyncIterator[bytes]:
    queue: asyncio.Queue[tuple[str, str]] = asyncio.Queue(MAX_PENDING_EVENTS)
    run.listeners.add(queue)
    try:
        queue.put_nowait(("run", run.view().model_dump_json(exclude_none=True)))
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    event, data = await queue.get()
            except TimeoutError:
                event, data = "", ""
            try:
                ask_again(request)
                require_reader(request)
            except ProblemError:  # the reader's token has been revoked or replaced
                return
            if not event:
                yield b":\n\n"
                continue
            yield f"event: {event}\ndata: {data}\n\n".encode()
            if (run.finished or not coordinator.ready) and queue.empty():
                return
    finally:
        run.listeners.discard(queue)


@router.get(
    "/v1/runs/{run}/ledger",
    **describe("All bytes of a run, as JSON, msgpack or text/csv", gives=Ledger, problems=("run-not-found",)),
)
async def ledger(request: Request, run: RunKey) -> Response:
    coordinator, found = _read(request, run)
    rows = coordinator.ledger.rows(found.id, await load_places(coordinator.store, found.id))
    if "text/csv" in request.headers.get("accept", ""):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(LedgerRow.model_fields)
        writer.writerows(row.model_dump().values() for row in rows)
        return Response(text.getvalue(), media_type="text/csv")
    links = []
    for name in coordinator.ledger.clients(found.id):
        if name in coordinator.links:
            tally, (sent, received) = coordinator.ledger.client(name), coordinator.links[name]
            links.append(
                LinkRow(
                    client=name,
                    sent_bytes=sent,
                    received_bytes=received,
                    uplink_bytes=tally.uplink,
                    downlink_bytes=tally.downlink,
                )
            )
    return respond(request, Ledger(rows=rows, links=links))


@router.get(
    "/v1/runs/{run}/metrics",
    **describe("Every closed exchange, in order", gives=RunMetrics, problems=("run-not-found",)),
)
async def metrics(request: Request, run: RunKey) -> Response:
    coordinator, found = _read(request, run)
    return respond(request, RunMetrics(exchanges=[coordinator.with_bytes(found, one) for one in found.closed]))


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
async def model(request: Request, run: RunKey) -> Response:
    coordinator = coordinator_of(request)
    found = coordinator.run(run)
    with contextlib.suppress(ProblemError):
        client = require_client(request)
        account_of(request).client = client.name
        if client.group == found.definition.run.group:
            return await _model(request, coordinator, found)
    require_reader(request)
    return await _model(request, coordinator, found)


async def _model(request: Request, coordinator: Coordinator, run: Run) -> Response:
    account = account_of(request)
    account.run, account.kind = run.id, "other"
    if run.model is not None:
        await final_model(coordinator, run, run.model)
        path = coordinator.folder.payload(run.model)
        return serve_file(request, path, run.model, coordinator.downloads, account, private=True)
    if run.damaged:
        raise ProblemError("storage-failed", run.reason or "")
    arrays = None if run.finished else await coordinator.compute(run.definition.server.model, run.at)
    if arrays is None:
        raise ProblemError("no-global-model")
    data = await coordinator.compute(save, dict(arrays))
    digest = (await coordinator.compute(hashlib.sha256, data)).digest()
    return await serve_copy(request, data, digest, coordinator.downloads, account)
