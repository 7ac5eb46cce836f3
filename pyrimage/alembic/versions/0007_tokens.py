"""Tokens that log users in."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeEngine

revision = "0007"
down_revision = "0006"
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


def utc_datetime() -> TypeEngine[datetime]:
    return sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", text(32), nullable=False),
        sa.Column("user", text(255), nullable=False),
        sa.Column("project", text(255), nullable=False),
        sa.Column("digest", text(64), nullable=False),
        sa.Column("is_login", sa.Boolean(), nullable=False),
        sa.Column("read_only", sa.Boolean(), nullable=False),
        sa.Column("created_at", utc_datetime(), nullable=False),
        sa.Column("expires_at", utc_datetime()),
        sa.Column("last_used_at", utc_datetime()),
        sa.Column("parent", text(32)),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
        sa.UniqueConstraint("digest", name="uq_tokens_digest"),
        sa.ForeignKeyConstraint(["parent"], ["tokens.id"], name="fk_tokens_parent", ondelete="CASCADE"),
    )
    for column in ("expires_at", "parent", "user"):
        op.create_index(f"ix_tokens_{column}", "tokens", [column])


def downgrade() -> None:
    op.drop_table("tokens")
