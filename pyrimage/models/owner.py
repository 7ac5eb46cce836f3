"""Whom images belong to."""

from sqlalchemy.orm import Mapped, mapped_column

from .meta import Base, text


class OwnerRow(Base):
    """One owner of images, ``''`` for none: the row whose lock makes a quota exact."""

    __tablename__ = "owners"

    id: Mapped[str] = mapped_column(text(255), primary_key=True)
