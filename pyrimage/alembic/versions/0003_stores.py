"""The identities of the stores' directories."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeEngine

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_MARIADB = {"charset": "utf8mb4", "collation": "utf8mb4_nopad_bin"}


# As pyrimage.models.meta had it at the time: a revision never changes.


def text(length: int) -> TypeEngine[str]:
    return (
        sa.String(length)
        .with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")
        .with_variant(mysql.VARCHAR(length, **_MARIADB), "mysql", "mariadb")
    )


def upgrade() -> None:
    op.create_table(
        "stores",
        sa.Column("name", text(20), nullable=False),
        sa.Column("identity", text(64), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_stores"),
    )


def downgrade() -> None:
    op.drop_table("stores")
