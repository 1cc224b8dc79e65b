"""Timelines of sessions; decisions are found by tenant."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add them."""
    op.add_column("sessions", sa.Column("timeline", sa.Text(), nullable=False, server_default="[]"))
    op.create_index("decisions_by_tenant", "decisions", ["tenant", "number"])
