"""Answers that counted, and were dropped with their exchange: their clients are told with their next task."""

from __future__ import annotations

from typing import Final

from sqlalchemy import exists, select

from .tables import tasks

DROPPED: Final = "dropped"
"""The reason of a late task whose answer was accepted, and does not count any more."""
_later = tasks.alias()
_dropped = tasks.alias()
DROPPED_BEFORE: Final = (
    select(_dropped.c.id)
    .where(
        _dropped.c.client == tasks.c.client, _dropped.c.state == "late", _dropped.c.run == tasks.c.run,
        _dropped.c.reason == DROPPED,
        ~exists().where(
            _later.c.client == _dropped.c.client, _later.c.state == "accepted", _later.c.run == _dropped.c.run,
            _later.c.exchange >= _dropped.c.exchange,
        ),
    )
    .order_by(_dropped.c.exchange.desc(), _dropped.c.offer.desc())
    .limit(1)
    .correlate(tasks)
    .scalar_subquery()
)  # fmt: skip
"""Of a task: the last one of its client in its run that counted, where its answer was dropped since."""
