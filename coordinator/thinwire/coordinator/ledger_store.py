"""The ledger and the clients' links in the database: differences are added, so that no crash counts a byte twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from thinwire.protocol.bytes import Bytes
from thinwire.protocol.reasons import ProblemError

from . import tables
from .store import Store
from .wire.accounting import Key

if TYPE_CHECKING:
    from .coordinator import Coordinator

_NOBODY = -1  # the exchange of rows that belong to none: NULL would not be unique
_COUNTS = {
    "requests": "requests", "uplink_payload_bytes": "uplink_payload", "uplink_framing_bytes": "uplink_framing",
    "downlink_payload_bytes": "downlink_payload", "downlink_framing_bytes": "downlink_framing",
    "resumed_bytes": "resumed", "seconds": "seconds",
}  # fmt: skip
"""Column -> field of `Bytes`."""


async def load_ledger(coordinator: Coordinator) -> None:
    """Every row and link that was stored."""
    rows: list[tuple[Key, Bytes]] = []
    for row in await coordinator.store.read(select(tables.ledger)):
        key: Key = (row.run, row.client, None if row.exchange == _NOBODY else row.exchange, row.kind)
        rows.append((key, Bytes(**{name: row._mapping[column] for column, name in _COUNTS.items()})))
    coordinator.ledger.load(rows)
    for row in await coordinator.store.read(select(tables.links)):
        coordinator.links[row.client] = (row.sent_bytes, row.received_bytes)


async def load_places(store: Store, run: str) -> dict[int, tuple[int, int]]:
    """Exchange of this run -> its round and step."""
    table = tables.exchanges
    wanted = select(table.c.exchange, table.c.round, table.c.step).where(table.c.run == run)
    return {row.exchange: (row.round, row.step) for row in await store.read(wanted)}


def _stored(key: Key, value: Bytes) -> dict[str, Any]:
    run, client, exchange, kind = key
    counts = {column: getattr(value, name) for column, name in _COUNTS.items()}
    return {"run": run, "client": client, "exchange": _NOBODY if exchange is None else exchange, "kind": kind, **counts}


async def save_ledger(coordinator: Coordinator) -> None:
    """Stores what has come since the last call. Raises: `storage-failed`, `storage-full`; then nothing is lost."""
    fresh = coordinator.ledger.drain()
    links, coordinator.fresh_links = coordinator.fresh_links, set()
    if not fresh and not links:
        return
    rows = [_stored(key, value) for key, value in fresh]
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
