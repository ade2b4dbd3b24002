"""In which exchange an answer counts, and how old the answers of an exchange were."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("counted_in", sa.Integer(), nullable=True))
    op.add_column("exchanges", sa.Column("staleness", sa.JSON(), nullable=True))
