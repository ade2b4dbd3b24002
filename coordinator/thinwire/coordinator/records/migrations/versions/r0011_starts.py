"""Which of its folder's processes a client's newest is, so that a copy of the folder is noticed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("clients", sa.Column("starts", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("clients", sa.Column("process", sa.String(length=12), nullable=True))
