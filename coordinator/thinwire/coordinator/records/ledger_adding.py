"""What is added to the ledger in one transaction: its rows, days, sums by client, and what it lacked."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, Executable

from thinwire.coordinator.wire.accounting import Key
from thinwire.protocol.bytes import Bytes

from .bills import add_to_day
from .database import upsert_in
from .ledger_rows import COUNTS, NO_EXCHANGE
from .links import Counts, Pair, add_to_clients, keep_counts, missing
from .tables import ledger


def add(
    connection: Connection,
    fresh: Mapping[Key, Bytes],
    told: Mapping[str, Pair],
    settled: Mapping[str, tuple[Counts, Pair]],
    now: float,
) -> None:
    """`fresh`, what clients have `told`, and what is lacking of what they had told before, which is `settled`."""
    _add_rows(connection, fresh, now)
    keep_counts(connection, told)
    lacking = missing(connection, settled)
    _add_rows(connection, lacking, now)


def _add_rows(connection: Connection, rows: Mapping[Key, Bytes], now: float) -> None:
    if rows:
        connection.execute(_adding(connection.dialect.name), [values_of(key, value) for key, value in rows.items()])
        add_to_day(connection, rows.items(), now)
        add_to_clients(connection, rows.items())


@cache
def _adding(dialect: str) -> Executable:
    new = upsert_in(dialect, ledger)
    return new.on_conflict_do_update(
        index_elements=["run", "client", "exchange", "kind"],
        set_={count.name: count + new.excluded[count.name] for count in COUNTS},
    )


def values_of(key: Key, value: Bytes) -> dict[str, Any]:
    """A row of the table, or of its message but for the exchange."""
    run, client, exchange, kind = key
    return {
        "run": run, "client": client, "exchange": number_of(exchange), "kind": kind,
        "requests": value.requests, "uplink_payload_bytes": value.uplink_payload,
        "uplink_framing_bytes": value.uplink_framing, "downlink_payload_bytes": value.downlink_payload,
        "downlink_framing_bytes": value.downlink_framing, "resumed_bytes": value.resumed, "seconds": value.seconds,
    }  # fmt: skip


def number_of(exchange: int | None) -> int:
    """As the table has it."""
    return NO_EXCHANGE if exchange is None else exchange
