"""Where a database has wide numbers of their own, what only grows has them: events, ledger."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """SQLite's integers are as wide as they need to be."""
    if op.get_bind().dialect.name == "postgresql":
        for table in ("events", "ledger"):
            op.execute(f"ALTER TABLE {table} ALTER COLUMN id TYPE BIGINT")
            op.execute(f"ALTER SEQUENCE {table}_id_seq AS BIGINT")
