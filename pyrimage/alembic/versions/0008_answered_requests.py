"""Requests that a registry has answered."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeEngine

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_MARIADB = {"charset": "utf8mb4", "collation": "utf8mb4_nopad_bin"}


# As pyrimage.models.meta had them at the time: a revision never changes.


def text(length: int) -> TypeEngine[str]:
    return (
        sa.String(length)
        .with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")
        .with_variant(mysql.VARCHAR(length, **_MARIADB), "mysql", "mariadb")
    )


def long_text() -> TypeEngine[str]:
    return (
        sa.Text()
        .with_variant(postgresql.TEXT(collation="C"), "postgresql")
        .with_variant(mysql.MEDIUMTEXT(**_MARIADB), "mysql", "mariadb")
    )


def utc_datetime() -> TypeEngine[datetime]:
    return sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "answered_requests",
        sa.Column("key", text(255), nullable=False),
        sa.Column("request", text(64), nullable=False),
        sa.Column("answer", long_text(), nullable=False),
        sa.Column("answered_at", utc_datetime(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_answered_requests"),
    )
    op.create_index("ix_answered_requests_answered_at", "answered_requests", ["answered_at"])


def downgrade() -> None:
    op.drop_table("answered_requests")
