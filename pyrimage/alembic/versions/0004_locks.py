"""Counters of locks: a lock that changes nothing locks nothing on a cluster."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("images", "owners"):
        op.add_column(table, sa.Column("locks", sa.BigInteger(), server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    for table in ("owners", "images"):
        op.drop_column(table, "locks")
