"""Runs: since when they go on from a backup."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("lineage", sa.String(length=12), nullable=True))
    op.add_column("runs", sa.Column("restored_at", sa.Integer(), nullable=True))
