"""Images and their free properties."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Index, Integer, Table, TextClause
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.types import TypeEngine

from ..catalogue.records import IMAGE_FIELDS, MAX_INT, Digest, Field, Flag, Kind, LongText, Text, Time, Whole
from .meta import ZERO, Base, long_text, text, utc_datetime

ID_LENGTH = 64


def is_text(field: Field) -> bool:
    """Say whether rows hold ``''`` where the record has None: lists sort by the column, so it is never NULL."""
    return isinstance(field.kind, Text)


def _type(kind: Kind) -> TypeEngine[Any]:
    match kind:
        case Text():
            return text(kind.length)
        case Digest():
            return text(kind.digits)
        case LongText():
            return long_text()
        case Whole():
            return Integer() if kind.maximum <= MAX_INT else BigInteger()
        case Flag():
            return Boolean()
        case Time():
            return utc_datetime()


def _default(field: Field) -> TextClause:
    """Return the default in a form that all databases take for numbers and flags too."""
    return sql("''" if is_text(field) else f"'{int(field.unset)}'")


def _columns() -> list[Column[Any]]:
    """Make a column of each field that is described."""
    return [
        Column(
            name,
            _type(field.kind),
            primary_key=name == "id",
            nullable=not is_text(field) and not field.is_required and field.unset is None,
            server_default=_default(field) if field.has_default else None,
        )
        for name, field in IMAGE_FIELDS.items()
    ]


class ImageRow(Base):
    """One image: a column for each field of the record, and what only SQL needs.

    A deleted image's row stays, and with it its id. locks: how often it was locked and not changed.
    final_status, final_updated_at: as they were when the image was deleted; a list that it is the marker of goes on
    from where it stood.
    """

    __table__ = Table(
        "images",
        Base.metadata,
        *_columns(),
        Column("final_status", text(30)),
        Column("final_updated_at", utc_datetime()),
        Column("locks", BigInteger, nullable=False, server_default=ZERO),
        # Lists of the public images, the others, one owner's: by time, by name, or of one name by time.
        Index(None, "is_public", "deleted", "created_at", "id"),
        Index(None, "is_public", "deleted", "name", "created_at", "id"),
        Index(None, "owner", "deleted", "created_at", "id"),
        Index(None, "owner", "deleted", "name", "created_at", "id"),
    )

    # Those that writes name; what SELECTs take are the table's columns.
    id: Mapped[str]
    status: Mapped[str]
    size: Mapped[int]
    protected: Mapped[bool]
    owner: Mapped[str]
    updated_at: Mapped[datetime]
    deleted: Mapped[bool]
    locks: Mapped[int]


class PropertyRow(Base):
    """One free property of an image."""

    __tablename__ = "image_properties"

    image_id: Mapped[str] = mapped_column(text(ID_LENGTH), ForeignKey(ImageRow.id), primary_key=True)
    key: Mapped[str] = mapped_column(text(255), primary_key=True)
    value: Mapped[str] = mapped_column(long_text())
