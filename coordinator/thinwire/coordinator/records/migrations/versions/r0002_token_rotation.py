"""Clients: the token that the present one has replaced."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("clients", sa.Column("replaced_hash", sa.LargeBinary(length=32), nullable=True))
