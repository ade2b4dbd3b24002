"""The tables. Columns are added by a new migration; times are Unix seconds."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata: Final = MetaData()

clients: Final = Table(
    "clients",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("group", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("token_hash", LargeBinary(32), nullable=False),
    Column("invite_hash", LargeBinary(32), nullable=False),
    Column("seen", Boolean, nullable=False),
    Column("enrolled_at", Float, nullable=False),
    Column("revoked_at", Float),
    Column("replaced_hash", LargeBinary(32)),
)

invites: Final = Table(
    "invites",
    metadata,
    Column("code_hash", LargeBinary(32), primary_key=True),
    Column("group", String(64), nullable=False),
    Column("role", String(16), nullable=False),
    Column("uses_left", Integer, nullable=False),
    Column("expires_at", Float),
)

runs: Final = Table(
    "runs",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("settings", JSON, nullable=False),
    Column("spec", LargeBinary(8)),
    Column("parameters", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("outcome", String(16)),
    Column("reason", String(1000)),
    Column("command", String(16)),
    Column("exchange", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("model", LargeBinary(32)),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
)

exchanges: Final = Table(
    "exchanges",
    metadata,
    Column("run", String(12), primary_key=True),
    Column("exchange", Integer, primary_key=True),
    Column("round", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("plan", LargeBinary(32), nullable=False),
    Column("parts", JSON, nullable=False),
    Column("cohort", String(8), nullable=False),
    Column("offers", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("left_s", Float),
    Column("closed", Boolean, nullable=False),
    Column("answers", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
)

tasks: Final = Table(
    "tasks",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("run", String(12), nullable=False),
    Column("exchange", Integer, nullable=False),
    Column("slot", Integer, nullable=False),
    Column("offer", Integer, nullable=False),
    Column("client", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("examples", Integer, nullable=False, server_default="0"),
    Column("metrics", JSON),
    Column("digest", LargeBinary(32)),
    Column("reason", String(64)),
    Column("detail", String(1000)),
    Index("tasks_exchange", "run", "exchange"),
    Index("tasks_client", "client"),
)

uploads: Final = Table(
    "uploads",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("task", String(12), nullable=False),
    Column("client", String(64), nullable=False),
    Column("length", BigInteger, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Column("created_at", Float, nullable=False),
)

ledger: Final = Table(
    "ledger",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run", String(12), nullable=False),
    Column("client", String(64), nullable=False),
    Column("exchange", Integer, nullable=False),
    Column("round", Integer),
    Column("step", Integer),
    Column("kind", String(16), nullable=False),
    Column("requests", Integer, nullable=False),
    Column("uplink_payload_bytes", BigInteger, nullable=False),
    Column("uplink_framing_bytes", BigInteger, nullable=False),
    Column("downlink_payload_bytes", BigInteger, nullable=False),
    Column("downlink_framing_bytes", BigInteger, nullable=False),
    Column("resumed_bytes", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    UniqueConstraint("run", "client", "exchange", "kind", name="ledger_key"),
)

links: Final = Table(
    "links",
    metadata,
    Column("client", String(64), primary_key=True),
    Column("sent_bytes", BigInteger, nullable=False),
    Column("received_bytes", BigInteger, nullable=False),
)
