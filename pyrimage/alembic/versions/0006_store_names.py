"""Longer names of stores."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeEngine

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_MARIADB = {"charset": "utf8mb4", "collation": "utf8mb4_nopad_bin"}

_COLUMNS = {"claims": "store", "image_locations": "store", "stores": "name"}


# As pyrimage.models.meta had it at the time: a revision never changes.


def text(length: int) -> TypeEngine[str]:
    return (
        sa.String(length)
        .with_variant(postgresql.VARCHAR(length, collation="C"), "postgresql")
        .with_variant(mysql.VARCHAR(length, **_MARIADB), "mysql", "mariadb")
    )


def upgrade() -> None:
    _set_length(before=20, after=64)


def downgrade() -> None:
    _set_length(before=64, after=20)


def _set_length(*, before: int, after: int) -> None:
    for table, column in _COLUMNS.items():
        with op.batch_alter_table(table) as batch:  # SQLite makes the table anew, the others change the column
            batch.alter_column(column, existing_type=text(before), existing_nullable=False, type_=text(after))
