"""What budgets have lowered of an exchange, and whom they have left out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("exchanges", sa.Column("lowered_bits", sa.Integer(), nullable=True))
    op.add_column("exchanges", sa.Column("lowered_cohort", sa.Integer(), nullable=True))
    op.add_column("exchanges", sa.Column("left_out", sa.JSON(), nullable=True))
