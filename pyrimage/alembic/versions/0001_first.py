"""The first schema: images, properties, locations, claims, members, owners."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.types import TypeEngine

revision = "0001"
down_revision = None
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


def moment() -> TypeEngine[datetime]:
    return sa.DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")


def upgrade() -> None:
    op.create_table(
        "claims",
        sa.Column("key", text(512), nullable=False),
        sa.Column("image_id", text(64), nullable=False),
        sa.Column("store", text(20), nullable=False),
        sa.Column("owner", text(255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("state", text(20), nullable=False),
        sa.Column("lease", moment(), nullable=False),
        sa.Column("server", text(255), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_claims"),
        sa.UniqueConstraint("image_id", name="uq_claims_image_id"),
    )
    op.create_index("ix_claims_lease", "claims", ["lease"])
    op.create_index("ix_claims_owner", "claims", ["owner"])
    op.create_table(
        "images",
        sa.Column("id", text(64), nullable=False),
        sa.Column("name", text(255), nullable=False),
        sa.Column("status", text(30), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("checksum", text(32), nullable=True),
        sa.Column("sha256", text(64), nullable=True),
        sa.Column("disk_format", text(20), nullable=False),
        sa.Column("container_format", text(20), nullable=False),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("protected", sa.Boolean(), nullable=False),
        sa.Column("owner", text(255), nullable=False),
        sa.Column("min_disk", sa.Integer(), nullable=False),
        sa.Column("min_ram", sa.Integer(), nullable=False),
        sa.Column("created_at", moment(), nullable=False),
        sa.Column("updated_at", moment(), nullable=False),
        sa.Column("deleted", sa.Boolean(), nullable=False),
        sa.Column("deleted_at", moment(), nullable=True),
        sa.Column("last_error", long_text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_images"),
    )
    op.create_index("ix_images_deleted_created_at_id", "images", ["deleted", "created_at", "id"])
    op.create_index("ix_images_is_public_deleted_created_at_id", "images", ["is_public", "deleted", "created_at", "id"])
    op.create_index("ix_images_owner_deleted_created_at_id", "images", ["owner", "deleted", "created_at", "id"])
    op.create_table(
        "owners", sa.Column("id", text(255), nullable=False), sa.PrimaryKeyConstraint("id", name="pk_owners")
    )
    op.create_table(
        "image_locations",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("image_id", text(64), nullable=False),
        sa.Column("store", text(20), nullable=False),
        sa.Column("key", text(512), nullable=False),
        sa.Column("owned", sa.Boolean(), nullable=False),
        sa.Column("state", text(20), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_image_locations_image_id"),
        sa.PrimaryKeyConstraint("id", name="pk_image_locations"),
    )
    op.create_index("ix_image_locations_image_id_state", "image_locations", ["image_id", "state"])
    op.create_index("ix_image_locations_key", "image_locations", ["key"])
    op.create_index("ix_image_locations_state", "image_locations", ["state"])
    op.create_table(
        "image_members",
        sa.Column("image_id", text(64), nullable=False),
        sa.Column("member", text(255), nullable=False),
        sa.Column("can_share", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_image_members_image_id"),
        sa.PrimaryKeyConstraint("image_id", "member", name="pk_image_members"),
    )
    op.create_index("ix_image_members_member", "image_members", ["member"])
    op.create_table(
        "image_properties",
        sa.Column("image_id", text(64), nullable=False),
        sa.Column("key", text(255), nullable=False),
        sa.Column("value", long_text(), nullable=False),
        sa.ForeignKeyConstraint(["image_id"], ["images.id"], name="fk_image_properties_image_id"),
        sa.PrimaryKeyConstraint("image_id", "key", name="pk_image_properties"),
    )


def downgrade() -> None:
    op.drop_table("image_properties")
    op.drop_table("image_members")
    op.drop_table("image_locations")
    op.drop_table("owners")
    op.drop_table("images")
    op.drop_table("claims")
