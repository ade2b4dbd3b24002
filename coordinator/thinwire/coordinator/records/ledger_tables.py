"""The tables of the ledger, and what all tables are of."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, Integer, MetaData, String, Table, UniqueConstraint

metadata: Final = MetaData()
NUMBER: Final = Integer().with_variant(BigInteger(), "postgresql")  # SQLite counts up only where it is an INTEGER

# `exchange` -1: none; NULL would not be unique.
ledger: Final = Table(
    "ledger",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("run", String(12), nullable=False),
    Column("client", String(64), nullable=False),
    Column("exchange", Integer, nullable=False),
    Column("kind", String(16), nullable=False),
    Column("requests", BigInteger, nullable=False),
    Column("uplink_payload_bytes", BigInteger, nullable=False),
    Column("uplink_framing_bytes", BigInteger, nullable=False),
    Column("downlink_payload_bytes", BigInteger, nullable=False),
    Column("downlink_framing_bytes", BigInteger, nullable=False),
    Column("resumed_bytes", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    UniqueConstraint("run", "client", "exchange", "kind", name="ledger_key"),
    Index("ledger_client", "client"),
)

# What the client's kernel has counted, as far as it has said so, and the sums of all its rows of the ledger.
links: Final = Table(
    "links",
    metadata,
    Column("client", String(64), primary_key=True),
    Column("sent_bytes", BigInteger, nullable=False),
    Column("received_bytes", BigInteger, nullable=False),
    Column("uplink_bytes", BigInteger, nullable=False, server_default="0"),
    Column("downlink_bytes", BigInteger, nullable=False, server_default="0"),
)

# Wire bytes by day, in days since 1970 (UTC); since the version that notes them.
ledger_days: Final = Table(
    "ledger_days",
    metadata,
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("run", String(12), primary_key=True),
    Column("client", String(64), primary_key=True),
    Column("uplink_bytes", BigInteger, nullable=False),
    Column("downlink_bytes", BigInteger, nullable=False),
    Index("ledger_days_client", "client", "day"),
)
