"""Plans and payloads by digest. A run's payloads are for the clients of its group, unless it says `public`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from thinwire.coordinator.coordinator import Coordinator
from thinwire.coordinator.repair import final_model
from thinwire.coordinator.runs import Run
from thinwire.coordinator.wire.accounting import account_of
from thinwire.coordinator.wire.documentation import BYTES, describe, header
from thinwire.coordinator.wire.files import is_unchanged, serve_file
from thinwire.coordinator.wire.negotiation import empty, respond, response_type
from thinwire.protocol.encoding import JSON, MSGPACK, decode_message
from thinwire.protocol.messages import Plan
from thinwire.protocol.reasons import ProblemError

from .parts import DigestHex, client_of, coordinator_of, digest_from

router = APIRouter(tags=["payloads"])


@router.get(
    "/v1/plans/{digest}",
    **describe(
        "What is constant for a run and kind of exchange", gives=Plan,
        also={206: "The range of the msgpack form that was asked for", 304: "Unchanged"},
        parameters=[header("Range", "one range of bytes", required=False)],
        problems=("plan-not-found", "range-not-satisfiable"),
    ),
)  # fmt: skip
async def plan(request: Request, digest: DigestHex) -> Response:
    client = client_of(request, "plan")
    coordinator = coordinator_of(request)
    name = digest_from(digest, "plan-not-found")
    run = next(
        (run for run in coordinator.runs.values() if name in run.plans() and run.definition.run.group == client.group),
        None,
    )
    if run is None:
        raise ProblemError("plan-not-found")
    _attribute(request, run, name)
    path = coordinator.folder.payload(name)
    if "accept" in request.headers and response_type(request) == JSON and "json" in request.headers["accept"]:
        tag = f'"{digest}"'
        if is_unchanged(request, tag):
            return empty(304, {"etag": tag})
        headers = {"etag": tag, "cache-control": "private, max-age=31536000, immutable"}
        return respond(request, decode_message(Plan, path.read_bytes()), 200, headers)
    return serve_file(
        request, path, name, coordinator.downloads, account_of(request), private=True, media_type=MSGPACK, framing=True
    )


@router.get(
    "/v1/payloads/{digest}",
    **describe(
        "A broadcast part, or a final model", gives=BYTES,
        also={206: "The range that was asked for", 304: "Unchanged"},
        parameters=[header("Range", "one range of bytes", required=False)],
        problems=("payload-not-found", "range-not-satisfiable", "storage-failed"),
    ),
)  # fmt: skip
async def payload(request: Request, digest: DigestHex) -> Response:
    name = digest_from(digest, "payload-not-found")
    public = next((run for run in coordinator_of(request).runs.values() if _is_public(run, name)), None)
    if public is not None and "authorization" not in request.headers:
        account_of(request).kind = "payload"
        run: Run | None = public
    else:
        client = client_of(request, "payload")
        run = public or _readable(coordinator_of(request), client.name, client.group, name)
    if run is None:
        raise ProblemError("payload-not-found")
    _attribute(request, run, name)
    coordinator = coordinator_of(request)
    if name == run.model:
        await final_model(coordinator, run, name)
    path = coordinator.folder.payload(name)
    if not path.exists():
        raise ProblemError("payload-not-found")
    return serve_file(request, path, name, coordinator.downloads, account_of(request), private=run is not public)


def _is_public(run: Run, digest: bytes) -> bool:
    return run.definition.run.payloads == "public" and (digest in run.shared() or digest == run.model)


def _readable(coordinator: Coordinator, client: str, group: str, digest: bytes) -> Run | None:
    """The run of the client's group whose payload this is; a private part only for the client it was made for."""
    for run in coordinator.runs.values():
        if run.definition.run.group != group:
            continue
        if digest in run.shared() or digest == run.model:
            return run
        made = None if run.open is None else run.open.private.get(client)
        if made is not None and made[1].digest == digest:
            return run
    return None


def _attribute(request: Request, run: Run, digest: bytes) -> None:
    account = account_of(request)
    account.run = run.id
    opened = run.open
    if opened is not None and digest != run.model:
        account.exchange = opened.index
        if opened.task.kind == "evaluate" and account.kind == "payload":
            account.kind = "evaluate"
