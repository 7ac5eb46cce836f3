"""Images and their free properties."""

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index
from sqlalchemy.orm import Mapped, mapped_column

from .meta import Base, counter, long_text, moment, text

ID_LENGTH = 64


class ImageRow(Base):
    """One image. Keys that lists sort by are never null: ``''`` stands for none.

    A deleted image's row stays, and with it its id. locks: how often it was locked and not changed.
    """

    __tablename__ = "images"

    id: Mapped[str] = mapped_column(text(ID_LENGTH), primary_key=True)
    name: Mapped[str] = mapped_column(text(255))
    status: Mapped[str] = mapped_column(text(30))
    size: Mapped[int] = mapped_column(BigInteger)
    checksum: Mapped[str | None] = mapped_column(text(32))
    sha256: Mapped[str | None] = mapped_column(text(64))
    disk_format: Mapped[str] = mapped_column(text(20))
    container_format: Mapped[str] = mapped_column(text(20))
    is_public: Mapped[bool]
    protected: Mapped[bool]
    owner: Mapped[str] = mapped_column(text(255))
    min_disk: Mapped[int]
    min_ram: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(moment())
    updated_at: Mapped[datetime] = mapped_column(moment())
    deleted: Mapped[bool]
    deleted_at: Mapped[datetime | None] = mapped_column(moment())
    activated_at: Mapped[datetime | None] = mapped_column(moment())
    last_error: Mapped[str | None] = mapped_column(long_text())
    # As they were when the image was deleted: a list that it is the marker of goes on from where it stood.
    final_status: Mapped[str | None] = mapped_column(text(30))
    final_updated_at: Mapped[datetime | None] = mapped_column(moment())
    locks: Mapped[int] = counter()

    __table_args__ = (
        # Lists of the public images, the others, one owner's: by time, by name, or of one name by time.
        Index(None, "is_public", "deleted", "created_at", "id"),
        Index(None, "is_public", "deleted", "name", "created_at", "id"),
        Index(None, "owner", "deleted", "created_at", "id"),
        Index(None, "owner", "deleted", "name", "created_at", "id"),
    )


class PropertyRow(Base):
    """One free property of an image."""

    __tablename__ = "image_properties"

    image_id: Mapped[str] = mapped_column(text(ID_LENGTH), ForeignKey(ImageRow.id), primary_key=True)
    key: Mapped[str] = mapped_column(text(255), primary_key=True)
    value: Mapped[str] = mapped_column(long_text())
