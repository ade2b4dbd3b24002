"""Who asks to be let in, what people call a client, its version, and how often its connections ended."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("clients", sa.Column("label", sa.String(length=64), nullable=True))
    op.add_column("presence", sa.Column("breaks", sa.Integer(), server_default="0", nullable=False))
    op.add_column("presence", sa.Column("software", sa.String(length=32), nullable=True))
    op.create_table(
        "pending",
        sa.Column("invite_hash", sa.LargeBinary(length=32), primary_key=True),
        sa.Column("code", sa.String(length=8), nullable=False, unique=True),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("says", sa.String(length=200), nullable=False),
        sa.Column("address", sa.String(length=64), nullable=False),
        sa.Column("asked_at", sa.Float(), nullable=False),
        sa.Column("heard_at", sa.Float(), nullable=False),
        sa.Column("refused", sa.Boolean(), nullable=False),
    )
