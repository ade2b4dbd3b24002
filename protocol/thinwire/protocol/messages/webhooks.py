"""Webhooks: addresses that a coordinator tells of its runs' events."""

from __future__ import annotations

from pydantic import Field

from thinwire.protocol.fields import Count, EventKind, Id, Message, Name, Url


class WebhookRequest(Message):
    """`POST /v1/webhooks`, by an operator. `url`: https, or http on the coordinator's own machine. `kinds`: of events;
    `run`: of this run alone, by name, which need not exist yet.
    """

    url: Url
    kinds: list[EventKind] = Field(default=["run", "exchange"], max_length=3)
    run: Name | None = None


class Webhook(Message):
    """A new webhook; the secret that signs its messages is shown once."""

    webhook: Id
    secret: str
    url: str
    kinds: list[EventKind]
    run: Name | None = None


class WebhookView(Message):
    """A webhook as operators see it. `last`: the id of the last event that was taken; `failures`: in a row, of the
    event behind it; `said`: what went wrong last; `next_at`: when it is tried again, Unix seconds.
    """

    webhook: Id
    url: str
    kinds: list[EventKind]
    run: Name | None = None
    last: Count
    failures: Count
    said: str | None = None
    next_at: float | None = None


class WebhookList(Message):
    """`GET /v1/webhooks`, by an operator, the oldest first."""

    webhooks: list[WebhookView]


class WebhookTested(Message):
    """`POST /v1/webhooks/{webhook}/test`: what became of a message of kind `test`. `said`: None where it was taken."""

    taken: bool
    said: str | None = None
