"""What clients say of themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "client_logs",
        sa.Column("client", sa.String(length=64), primary_key=True),
        sa.Column("lines", sa.JSON(), nullable=False),
        sa.Column("received_at", sa.Float(), nullable=False),
    )
