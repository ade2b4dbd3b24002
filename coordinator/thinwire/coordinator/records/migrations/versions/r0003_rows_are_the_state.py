"""Rows hold all that replicas share: leases, presence, answers, payloads by exchange, events."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

runs = sa.table(
    "runs", sa.column("id"), sa.column("state"), sa.column("exchange"), sa.column("model"), sa.column("damaged"),
    sa.column("group"), sa.column("settings", sa.JSON),
)  # fmt: skip
exchanges = sa.table(
    "exchanges", sa.column("run"), sa.column("exchange"), sa.column("plan"), sa.column("parts", sa.JSON),
    sa.column("cohort"), sa.column("max_payload_bytes"), sa.column("size"), sa.column("clock_at"),
    sa.column("closed", sa.Boolean), sa.column("answers"),
)  # fmt: skip
tasks = sa.table(
    "tasks", sa.column("id"), sa.column("run"), sa.column("exchange"), sa.column("slot"), sa.column("state"),
    sa.column("examples"), sa.column("metrics", sa.JSON), sa.column("digest"),
)  # fmt: skip


def upgrade() -> None:
    _new_tables()
    _runs()
    _exchanges()
    _answers()
    _payloads()
    with op.batch_alter_table("ledger") as batch:
        batch.alter_column("requests", type_=sa.BigInteger(), existing_type=sa.Integer(), existing_nullable=False)
        batch.drop_column("round")
        batch.drop_column("step")
    op.create_index("ledger_client", "ledger", ["client"])
    op.create_index("uploads_task", "uploads", ["task"])
    op.create_index("uploads_client", "uploads", ["client"])


def _new_tables() -> None:
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(length=64), primary_key=True),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
    )
    op.create_table(
        "presence",
        sa.Column("client", sa.String(length=64), primary_key=True),
        sa.Column("spec", sa.LargeBinary(length=8)),
        sa.Column("holds", sa.JSON(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("parked", sa.Boolean(), nullable=False),
        sa.Column("gone", sa.Boolean(), nullable=False),
    )
    op.create_table(
        "leases",
        sa.Column("run", sa.String(length=12), primary_key=True),
        sa.Column("holder", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("until", sa.Float()),
    )
    op.create_table(
        "answers",
        sa.Column("task", sa.String(length=12), primary_key=True),
        sa.Column("examples", sa.Integer(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32)),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("arrived_at", sa.Float(), nullable=False),
    )
    op.create_table(
        "payloads",
        sa.Column("run", sa.String(length=12), primary_key=True),
        sa.Column("exchange", sa.Integer(), primary_key=True),
        sa.Column("digest", sa.LargeBinary(length=32), primary_key=True),
        sa.Column("client", sa.String(length=64), primary_key=True, server_default=""),
        sa.Column("kind", sa.String(length=8), nullable=False),
    )
    op.create_index("payloads_digest", "payloads", ["digest"])
    op.create_table(
        "events",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("run", sa.String(length=12), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("exchange", sa.Integer()),
        sa.Column("answers", sa.Integer()),
        sa.Column("at", sa.Float(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("events_run", "events", ["run", "id"])


def _runs() -> None:
    op.add_column("runs", sa.Column("group", sa.String(length=64)))
    op.add_column("runs", sa.Column("damaged", sa.Boolean()))
    connection = op.get_bind()
    connection.execute(sa.update(runs).values(damaged=False))
    for run in connection.execute(sa.select(runs.c.id, runs.c.settings)).all():
        group = run.settings.get("group", "default")
        connection.execute(sa.update(runs).where(runs.c.id == run.id).values(group=group))
    with op.batch_alter_table("runs") as batch:
        batch.alter_column("group", existing_type=sa.String(length=64), nullable=False)
        batch.alter_column("damaged", existing_type=sa.Boolean(), nullable=False)
    op.create_index("runs_group", "runs", ["group", "state"])


def _exchanges() -> None:
    """What the bounds and options of an open exchange are only its leader can say, who does when it takes the run.

    The clocks of the old version stood still while it did not run.
    """
    op.add_column("exchanges", sa.Column("options", sa.JSON()))
    op.add_column("exchanges", sa.Column("max_payload_bytes", sa.BigInteger()))
    op.add_column("exchanges", sa.Column("size", sa.Integer()))
    op.add_column("exchanges", sa.Column("clock_at", sa.Float()))
    op.add_column("exchanges", sa.Column("opened_at", sa.Float()))
    op.add_column("exchanges", sa.Column("closed_at", sa.Float()))
    connection = op.get_bind()
    connection.execute(sa.update(exchanges).values(max_payload_bytes=0, clock_at=time.time()))
    for run in connection.execute(sa.select(runs.c.id, runs.c.settings)).all():
        mine = exchanges.c.run == run.id
        connection.execute(sa.update(exchanges).where(mine).values(size=run.settings["cohort"]))
    asked = (tasks.c.run == exchanges.c.run) & (tasks.c.exchange == exchanges.c.exchange)
    cohort = sa.select(sa.func.count(tasks.c.slot.distinct())).where(asked).scalar_subquery()
    connection.execute(sa.update(exchanges).where(exchanges.c.cohort == "same").values(size=cohort))
    # Answers that count were noted when the exchange closed.
    accepted = sa.select(sa.func.count()).where(asked, tasks.c.state == "accepted").scalar_subquery()
    connection.execute(sa.update(exchanges).where(exchanges.c.closed.is_(sa.false())).values(answers=accepted))
    with op.batch_alter_table("exchanges") as batch:
        batch.alter_column("max_payload_bytes", existing_type=sa.BigInteger(), nullable=False)
        batch.alter_column("size", existing_type=sa.Integer(), nullable=False)
        batch.alter_column("clock_at", existing_type=sa.Float(), nullable=False)


def _answers() -> None:
    """When and how large the old version's answers came is not known."""
    kept = sa.select(
        tasks.c.id, tasks.c.examples, sa.func.coalesce(tasks.c.metrics, sa.literal({}, sa.JSON())),
        tasks.c.digest, sa.literal(0), sa.literal(0.0),
    ).where(tasks.c.state == "accepted")  # fmt: skip
    names = ["task", "examples", "metrics", "digest", "size", "arrived_at"]
    answers = sa.table("answers", *(sa.column(name) for name in names))
    op.get_bind().execute(sa.insert(answers).from_select(names, kept))
    op.drop_index("tasks_client", "tasks")
    with op.batch_alter_table("tasks") as batch:
        batch.add_column(sa.Column("private", sa.JSON()))
        batch.drop_column("examples")
        batch.drop_column("metrics")
        batch.drop_column("digest")
    op.create_index("tasks_client", "tasks", ["client", "state"])


def _payloads() -> None:
    """Of an unfinished run: of the exchange that is open or comes next, and the one before; and all final models."""
    connection = op.get_bind()
    payloads = sa.table("payloads", *(sa.column(name) for name in ("run", "exchange", "digest", "client", "kind")))
    rows = []
    for run in connection.execute(sa.select(runs).order_by(runs.c.id)).all():
        if run.model is not None:
            rows.append({"run": run.id, "exchange": -1, "digest": run.model, "client": "", "kind": "model"})
        if run.state != "finished":
            needed = sa.select(exchanges).where(exchanges.c.run == run.id, exchanges.c.exchange >= run.exchange - 1)
            for exchange in connection.execute(needed).all():
                kinds = {exchange.plan: "plan", **dict.fromkeys(_digests(exchange.parts), "part")}
                of_it = {"run": run.id, "exchange": exchange.exchange, "client": ""}
                rows += [{**of_it, "digest": digest, "kind": kind} for digest, kind in kinds.items()]
    if rows:
        connection.execute(sa.insert(payloads), rows)


def _digests(parts: list[Any]) -> Iterator[bytes]:
    for _, _, full, delta in parts:
        yield bytes.fromhex(full[0])
        if delta is not None:
            yield bytes.fromhex(delta[0])
