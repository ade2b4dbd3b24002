"""The ledger and the clients' links in the database: differences are added, so that no crash counts a byte twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from thinwire.protocol.messages import LedgerRow
from thinwire.protocol.reasons import ProblemError

from . import tables

if TYPE_CHECKING:
    from .coordinator import Coordinator

_NOBODY = -1  # the exchange of rows that belong to none: NULL would not be unique
_COUNTS = (
    "requests", "uplink_payload_bytes", "uplink_framing_bytes", "downlink_payload_bytes", "downlink_framing_bytes",
    "resumed_bytes", "seconds",
)  # fmt: skip


async def load_ledger(coordinator: Coordinator) -> None:
    """Every row and link that was stored."""
    rows = []
    for row in await coordinator.store.read(select(tables.ledger)):
        values: dict[str, Any] = dict(row._mapping)
        del values["id"]
        values["exchange"] = None if row.exchange == _NOBODY else row.exchange
        rows.append(LedgerRow.model_validate(values))
    coordinator.ledger.load(rows)
    for row in await coordinator.store.read(select(tables.links)):
        coordinator.links[row.client] = (row.sent_bytes, row.received_bytes)


async def save_ledger(coordinator: Coordinator) -> None:
    """Stores what has come since the last call. Raises: `storage-failed`, `storage-full`; then nothing is lost."""
    fresh = coordinator.ledger.drain()
    links, coordinator.fresh_links = coordinator.fresh_links, set()
    if not fresh and not links:
        return
    rows = [{**row.model_dump(), "exchange": _NOBODY if row.exchange is None else row.exchange} for row in fresh]
    table = tables.ledger
    statement = insert(table)
    upsert = statement.on_conflict_do_update(
        index_elements=["run", "client", "exchange", "kind"],
        set_={name: table.c[name] + statement.excluded[name] for name in _COUNTS},
    )
    link = insert(tables.links)
    keep = link.on_conflict_do_update(
        index_elements=["client"],
        set_={"sent_bytes": link.excluded.sent_bytes, "received_bytes": link.excluded.received_bytes},
    )
    told = [
        {"client": name, "sent_bytes": coordinator.links[name][0], "received_bytes": coordinator.links[name][1]}
        for name in links
    ]
    try:
        await coordinator.store.write((upsert, rows), (keep, told))
    except ProblemError:
        coordinator.ledger.undrain(fresh)
        coordinator.fresh_links |= links
        raise
