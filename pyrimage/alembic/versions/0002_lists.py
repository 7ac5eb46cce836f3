"""Lists by name, and where a deleted image stood in a list."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeEngine

revision = "0002"
down_revision = "0001"
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


def moment() -> TypeEngine[datetime]:
    return sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    op.add_column("images", sa.Column("final_status", text(30), nullable=True))
    op.add_column("images", sa.Column("final_updated_at", moment(), nullable=True))
    for first in ("is_public", "owner"):
        columns = [first, "deleted", "name", "created_at", "id"]
        op.create_index(f"ix_images_{'_'.join(columns)}", "images", columns)
    op.drop_index("ix_images_deleted_created_at_id", "images")


def downgrade() -> None:
    op.create_index("ix_images_deleted_created_at_id", "images", ["deleted", "created_at", "id"])
    for first in ("is_public", "owner"):
        op.drop_index(f"ix_images_{first}_deleted_name_created_at_id", "images")
    op.drop_column("images", "final_updated_at")
    op.drop_column("images", "final_status")
