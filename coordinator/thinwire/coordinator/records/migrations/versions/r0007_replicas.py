"""What several coordinators over one database have to know of each other."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("state_epoch", sa.Integer(), nullable=True))
    op.add_column("exchanges", sa.Column("state_epoch", sa.Integer(), nullable=True))
    op.add_column("presence", sa.Column("holder", sa.String(length=12), nullable=True))
    op.add_column("clients", sa.Column("version", sa.BigInteger(), server_default="0", nullable=False))
    op.create_index("clients_version", "clients", ["version"])
    op.create_table(
        "replicas",
        sa.Column("name", sa.String(length=12), primary_key=True),
        sa.Column("until", sa.Float(), nullable=False),
    )
