"""What operators say of webhooks: whom to tell, whom no more, and whether a message arrives."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable
from typing import Final

import structlog

from thinwire.coordinator.records.webhooks import WebhookRow
from thinwire.coordinator.records.webhooks import Webhooks as WebhookRows
from thinwire.coordinator.runs.identity import fresh_id
from thinwire.coordinator.signals.signals import Signals
from thinwire.protocol.messages import Webhook, WebhookList, WebhookRequest, WebhookTested, WebhookView

from .posting import SECRET_BYTES, Posting, secret_text

MOST: Final = 20
TEST: Final = "test"
_ID_LENGTH: Final = 12
_log = structlog.get_logger("thinwire.coordinator")


class Webhooks:
    """Over the rows; the messages are sent by `Delivering`. `clock`: Unix seconds. Everything raises `storage-failed`,
    and what writes `storage-full`.
    """

    def __init__(
        self, rows: WebhookRows, posting: Posting, signals: Signals, clock: Callable[[], float] = time.time
    ) -> None:
        self._rows = rows
        self._posting = posting
        self._signals = signals
        self._clock = clock

    async def add(self, request: WebhookRequest) -> Webhook:
        """It is told of what happens from now on. Raises: `too-many-requests`."""
        kinds = sorted(set(request.kinds)) or ["exchange", "run"]
        row = await self._rows.add(
            fresh_id(_ID_LENGTH), request.url, secrets.token_bytes(SECRET_BYTES), kinds, request.run,
            most=MOST, now=self._clock(),
        )  # fmt: skip
        _log.info("webhook added", webhook=row.id, kinds=kinds, run=row.run)
        self._signals.publish("webhooks")
        return Webhook(webhook=row.id, secret=secret_text(row.secret), url=row.url, kinds=kinds, run=row.run)

    async def list(self) -> WebhookList:
        """The oldest first."""
        return WebhookList(webhooks=[_view(row) for row in await self._rows.all()])

    async def remove(self, name: str) -> None:
        """It is told no more. Raises: `webhook-not-found`."""
        await self._rows.remove(name)
        _log.info("webhook removed", webhook=name)
        self._signals.publish("webhooks")

    async def test(self, name: str) -> WebhookTested:
        """Sends a message of kind `test`, now and once; where it is taken, what waits follows at once. Raises:
        `webhook-not-found`.
        """
        row, now = await self._rows.get(name), self._clock()
        said = await self._posting.post(
            row.url, row.secret, f"{row.id}-{TEST}-{int(now)}", now, body_of(row, None, TEST, now)
        )
        if said is None:
            self._signals.publish("webhooks", name)
        return WebhookTested(taken=said is None, said=said)


def body_of(
    row: WebhookRow, event: int | None, kind: str, at: float, run: tuple[str, str] | None = None, data: str = "{}"
) -> bytes:
    """A message. `event`: its id; `at`: when it happened, Unix seconds; `run`: id and name; `data`: JSON."""
    head = {
        "webhook": row.id, "event": event, "kind": kind, "at": at,
        "run": None if run is None else {"id": run[0], "name": run[1]},
    }  # fmt: skip
    return f'{json.dumps(head)[:-1]}, "data": {data}}}'.encode()


def _view(row: WebhookRow) -> WebhookView:
    return WebhookView(
        webhook=row.id, url=row.url, kinds=list(row.kinds), run=row.run, last=row.last, failures=row.failures,
        said=row.said, next_at=row.next_at,
    )  # fmt: skip
