"""Plans and payloads by digest. A run's payloads are for the clients of its group, unless it says `public`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from thinwire.coordinator.serve.payloads import Found, Payloads
from thinwire.coordinator.wire.accounting import account_of
from thinwire.coordinator.wire.documentation import BYTES, describe, header
from thinwire.coordinator.wire.downloads import Downloads
from thinwire.coordinator.wire.files import is_unchanged, serve_file
from thinwire.coordinator.wire.negotiation import empty, respond, response_type
from thinwire.protocol.encoding import JSON, MSGPACK, decode_message
from thinwire.protocol.messages import Plan

from .parts import DigestHex, client_of, digest_from, of

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
    client, downloads, account = client_of(request, "plan"), of(request, Downloads), account_of(request)
    name = digest_from(digest, "plan-not-found")
    found = await of(request, Payloads).plan(name, client)
    _charge(request, found)
    if "accept" in request.headers and response_type(request) == JSON and "json" in request.headers["accept"]:
        tag = f'"{digest}"'
        if is_unchanged(request, tag):
            return empty(304, {"etag": tag})
        headers = {"etag": tag, "cache-control": "private, max-age=31536000, immutable"}
        return respond(request, decode_message(Plan, found.path.read_bytes()), 200, headers)
    return serve_file(request, found.path, name, downloads, account, private=True, media_type=MSGPACK, framing=True)


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
    account, payloads, downloads = account_of(request), of(request, Payloads), of(request, Downloads)
    found = None if "authorization" in request.headers else await payloads.public(name)
    if found is None:
        found = await payloads.payload(name, client_of(request, "payload"))
    account.kind = "evaluate" if found.is_evaluation else "payload"
    _charge(request, found)
    return serve_file(request, found.path, name, downloads, account, private=not found.public)


def _charge(request: Request, found: Found) -> None:
    account = account_of(request)
    account.run, account.exchange = found.run, found.exchange
