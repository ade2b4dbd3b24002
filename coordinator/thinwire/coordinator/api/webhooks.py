"""Webhooks: whom the coordinator tells of events."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from fastapi import APIRouter, Path, Request, Response

from thinwire.coordinator.serve.webhooks import Webhooks
from thinwire.coordinator.wire.auditing import tell_detail
from thinwire.coordinator.wire.documentation import describe
from thinwire.coordinator.wire.identity import require_operator
from thinwire.coordinator.wire.negotiation import empty, read_message, respond
from thinwire.protocol.messages import Webhook, WebhookList, WebhookRequest, WebhookTested

from .parts import of

WebhookId = Annotated[str, Path(description="id of the webhook", max_length=64)]
_PROBLEMS = ("not-allowed", "webhook-not-found", "storage-failed", "storage-full")
router = APIRouter(tags=["webhooks"])


def _webhooks(request: Request) -> Webhooks:
    """For operators alone: an address may hold what only its owner should know."""
    webhooks = of(request, Webhooks)
    require_operator(request)
    return webhooks


@router.post(
    "/v1/webhooks",
    **describe(
        "Tell an address of runs' events, signed; its secret is shown once",
        takes=WebhookRequest,
        gives=Webhook,
        status=201,
        problems=("not-allowed", "too-many-requests", "storage-failed", "storage-full"),
    ),
)
async def add(request: Request) -> Response:
    webhooks = _webhooks(request)
    wanted = await read_message(request, WebhookRequest)
    tell_detail(request, f"of {', '.join(wanted.kinds)} to {urlsplit(wanted.url).netloc}")
    return respond(request, await webhooks.add(wanted), 201)


@router.get("/v1/webhooks", **describe("All webhooks, the oldest first", gives=WebhookList, problems=("not-allowed",)))
async def list_(request: Request) -> Response:
    return respond(request, await _webhooks(request).list())


@router.delete("/v1/webhooks/{webhook}", **describe("Tell a webhook nothing any more", status=204, problems=_PROBLEMS))
async def remove(request: Request, webhook: WebhookId) -> Response:
    await _webhooks(request).remove(webhook)
    return empty(204)


@router.post(
    "/v1/webhooks/{webhook}/test",
    **describe("Send a message of kind `test`, once", gives=WebhookTested, problems=_PROBLEMS),
)
async def test(request: Request, webhook: WebhookId) -> Response:
    return respond(request, await _webhooks(request).test(webhook))
