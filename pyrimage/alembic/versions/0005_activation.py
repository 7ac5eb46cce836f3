"""When an image's bytes became readable."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql
from sqlalchemy.types import TypeEngine

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


# As pyrimage.models.meta had it at the time: a revision never changes.


def moment() -> TypeEngine[datetime]:
    return sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    op.add_column("images", sa.Column("activated_at", moment(), nullable=True))
    # Nobody knows it of these any more; the last change came after it.
    op.execute("UPDATE images SET activated_at = updated_at WHERE status = 'active'")


def downgrade() -> None:
    op.drop_column("images", "activated_at")
