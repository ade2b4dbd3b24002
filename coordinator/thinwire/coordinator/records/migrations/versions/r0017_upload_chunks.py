"""Uploads that any coordinator goes on with."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("uploads", sa.Column("holder", sa.String(length=12)))
    op.add_column("uploads", sa.Column("epoch", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("uploads", sa.Column("touched_at", sa.Float()))
    op.create_table(
        "chunks",
        sa.Column("upload", sa.String(length=12), primary_key=True),
        sa.Column("offset", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
    )
