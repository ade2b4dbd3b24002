"""The tables. Columns are added by a new migration; times are Unix seconds, but for what says otherwise."""

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
    String,
    Table,
)

from .access_tables import audit, clients, invites, pending, secrets, sessions
from .ledger_tables import NUMBER, ledger, ledger_days, links, metadata

__all__ = [
    "answers", "audit", "client_logs", "clients", "events", "exchanges", "invites", "leases", "ledger", "ledger_days",
    "links", "metadata", "payloads", "pending", "presence", "replicas", "runs", "secrets", "sessions", "tasks",
    "uploads", "webhooks",
]  # fmt: skip

# What a client's last registration said. `parked`: its poll is waiting, at the coordinator `holder`; `gone`: the
# connection of its poll died; `breaks`: how often its last connection ended; `software`: its version.
presence: Final = Table(
    "presence",
    metadata,
    Column("client", String(64), primary_key=True),
    Column("spec", LargeBinary(8)),
    Column("holds", JSON, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("parked", Boolean, nullable=False),
    Column("gone", Boolean, nullable=False),
    Column("holder", String(12)),
    Column("breaks", Integer, nullable=False, server_default="0"),
    Column("software", String(32)),
)

# `exchange`: the one that is open or comes next; `round`, `step`: of the state before it. `damaged`: what the run needs
# on the disk cannot be read. `command`: pause, pause-drop, stop, stop-drop, resume: not yet carried out.
# `lineage`: of a run that goes on from a backup; what was said of its exchange `restored_at` or later ones may be of a
# future that is lost. `state_epoch`: of the lease under which the checkpoint before `exchange` was written, where there
# may be several leaders; of exchanges likewise. `best`: score, value, exchange, round, epoch and, once the run is over,
# file of its best models: what they are made of stays.
runs: Final = Table(
    "runs",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("group", String(64), nullable=False),
    Column("settings", JSON, nullable=False),
    Column("spec", LargeBinary(8)),
    Column("parameters", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("outcome", String(16)),
    Column("reason", String(1000)),
    Column("command", String(16)),
    Column("damaged", Boolean, nullable=False),
    Column("exchange", Integer, nullable=False),
    Column("round", Integer, nullable=False),
    Column("step", Integer, nullable=False),
    Column("model", LargeBinary(32)),
    Column("created_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("lineage", String(12)),
    Column("restored_at", Integer),
    Column("state_epoch", Integer),
    Column("best", JSON),
    Index("runs_group", "group", "state"),
)

# `until` NULL: granted for as long as the process lives that holds the folder.
leases: Final = Table(
    "leases",
    metadata,
    Column("run", String(12), primary_key=True),
    Column("holder", String(64), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("until", Float),
)

# The coordinators over this database, and until when the others take each for alive.
replicas: Final = Table(
    "replicas",
    metadata,
    Column("name", String(12), primary_key=True),
    Column("until", Float, nullable=False),
)

# `parts`: name, spec, full form, delta form of each, in the order of the plan. `size`: the answers it closes at.
# `seconds`: how long it has been open, and `left_s`: what is left of the present offer, both as of `clock_at`.
# `lowered_*`: by a budget; `left_out`: client -> why a budget kept it from being asked. `staleness`: how many of its
# answers were 0, 1, 2... exchanges old, of an asynchronous run.
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
    Column("options", JSON),
    Column("max_payload_bytes", BigInteger, nullable=False),
    Column("cohort", String(8), nullable=False),
    Column("size", Integer, nullable=False),
    Column("offers", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("left_s", Float),
    Column("clock_at", Float, nullable=False),
    Column("closed", Boolean, nullable=False),
    Column("answers", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("opened_at", Float),
    Column("closed_at", Float),
    Column("state_epoch", Integer),
    Column("lowered_bits", Integer),
    Column("lowered_cohort", Integer),
    Column("left_out", JSON(none_as_null=True)),
    Column("staleness", JSON(none_as_null=True)),
)

# `private`: digest in hex, size and spec of the part that is for this client alone. `counted_in`: the exchange in which
# its answer counts; NULL of one that was counted before there was this column: its own.
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
    Column("private", JSON),
    Column("reason", String(64)),
    Column("detail", String(1000)),
    Column("counted_in", Integer),
    Index("tasks_exchange", "run", "exchange"),
    Index("tasks_client", "client", "state"),
)

# An answer that has arrived whole; its verdict is the state of its task.
answers: Final = Table(
    "answers",
    metadata,
    Column("task", String(12), primary_key=True),
    Column("examples", Integer, nullable=False),
    Column("metrics", JSON, nullable=False),
    Column("digest", LargeBinary(32)),
    Column("size", BigInteger, nullable=False),
    Column("arrived_at", Float, nullable=False),
)

# Which exchange names which payload: who may fetch it, whom its bytes belong to, and when it may go.
# `kind`: plan, part, private (then `client`), model.
payloads: Final = Table(
    "payloads",
    metadata,
    Column("run", String(12), primary_key=True),
    Column("exchange", Integer, primary_key=True),
    Column("digest", LargeBinary(32), primary_key=True),
    Column("client", String(64), primary_key=True, server_default=""),
    Column("kind", String(8), nullable=False),
    Index("payloads_digest", "digest"),
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
    Index("uploads_task", "task"),
    Index("uploads_client", "client"),
)

# `kind`: run, answer, exchange. What it tells is read from the rows when it is told; `answers`: the count of an answer.
events: Final = Table(
    "events",
    metadata,
    Column("id", NUMBER, primary_key=True),
    Column("run", String(12), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("exchange", Integer),
    Column("answers", Integer),
    Column("at", Float, nullable=False),
    Index("events_run", "run", "id"),
    sqlite_autoincrement=True,
)

# Who is told of events. `secret`: what signs the messages. `kinds`: separated by commas; `run`: a name, NULL for all.
# `last`: the id of the last event that was taken; `failures`: in a row since then, `said` why, and again at `next_at`.
webhooks: Final = Table(
    "webhooks",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("url", String(2000), nullable=False),
    Column("secret", LargeBinary(32), nullable=False),
    Column("kinds", String(64), nullable=False),
    Column("run", String(64)),
    Column("created_at", Float, nullable=False),
    Column("last", BigInteger, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("said", String(300)),
    Column("next_at", Float),
)

# The latest lines that each client has sent: pairs of its own time in Unix seconds, and text.
client_logs: Final = Table(
    "client_logs",
    metadata,
    Column("client", String(64), primary_key=True),
    Column("lines", JSON, nullable=False),
    Column("received_at", Float, nullable=False),
)
