"""What the ledger has of each client in all, beside what the client's own kernel has counted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("uplink_bytes", "downlink_bytes"):
        op.add_column("links", sa.Column(name, sa.BigInteger(), server_default="0", nullable=False))
    op.execute(
        "INSERT INTO links (client, sent_bytes, received_bytes) SELECT DISTINCT client, 0, 0 FROM ledger "
        "WHERE client <> '' AND client NOT IN (SELECT client FROM links)"
    )
    op.execute(
        "UPDATE links SET uplink_bytes = coalesce((SELECT sum(uplink_payload_bytes + uplink_framing_bytes) "
        "FROM ledger WHERE ledger.client = links.client), 0), "
        "downlink_bytes = coalesce((SELECT sum(downlink_payload_bytes + downlink_framing_bytes) "
        "FROM ledger WHERE ledger.client = links.client), 0)"
    )
