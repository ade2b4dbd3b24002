"""The tables of who may do what: those that are let in or ask to be, secrets by their hashes, and what was changed.
Times are Unix seconds.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, LargeBinary, String, Table

from .ledger_tables import NUMBER, metadata

# `starts`, `process`: of its newest process, which one of its folder's it is and what it calls itself.
# `version`: rises with every change of who may do what, over all clients, so that what has changed is found.
# `label`: what people call the client; its name stays what it was. `deleted_at`: the row is all that is left of it, so
# that histories keep its name and the invite it came with does not let it in again.
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
    Column("version", BigInteger, nullable=False, server_default="0"),
    Column("starts", BigInteger, nullable=False, server_default="0"),
    Column("process", String(12)),
    Column("label", String(64)),
    Column("deleted_at", Float),
    Index("clients_version", "version"),
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

# Devices that ask to be let in without an invite. `invite_hash`: of the one that each has drawn for itself, in force
# once it is accepted; then its row goes, and the invite's is there.
pending: Final = Table(
    "pending",
    metadata,
    Column("invite_hash", LargeBinary(32), primary_key=True),
    Column("code", String(8), nullable=False, unique=True),
    Column("name", String(64), nullable=False),
    Column("says", String(200), nullable=False),
    Column("address", String(64), nullable=False),
    Column("asked_at", Float, nullable=False),
    Column("heard_at", Float, nullable=False),
    Column("refused", Boolean, nullable=False),
)

# The operator's token, by its hash: rotation at one replica is seen by all.
secrets: Final = Table(
    "secrets",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("hash", LargeBinary(32), nullable=False),
)

# Who is logged in at the pages. `hash`: of the cookie; `token_hash`: of the token that was shown for it.
sessions: Final = Table(
    "sessions",
    metadata,
    Column("hash", LargeBinary(32), primary_key=True),
    Column("token_hash", LargeBinary(32), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
)

# What operators have changed, or tried to. `who`: a client's name, "" for whoever has the data folder's token.
audit: Final = Table(
    "audit",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("at", Float, nullable=False),
    Column("who", String(64), nullable=False),
    Column("address", String(64), nullable=False),
    Column("method", String(8), nullable=False),
    Column("path", String(500), nullable=False),
    Column("status", Integer, nullable=False),
    Column("detail", String(1000)),
)
