"""Whom images belong to."""

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from .meta import ZERO, Base, text


class OwnerRow(Base):
    """One owner of images, ``''`` for none: the row whose lock makes a quota exact.

    locks: how often it was locked.
    """

    __tablename__ = "owners"

    id: Mapped[str] = mapped_column(text(255), primary_key=True)
    locks: Mapped[int] = mapped_column(BigInteger, server_default=ZERO)
