"""Which batch of usage each process added last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "usage_writers",
        sa.Column("writer", sa.String(128), primary_key=True),
        sa.Column("batch", sa.String(128), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
    )
