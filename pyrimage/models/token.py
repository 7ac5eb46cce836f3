"""Tokens that log users in."""

from datetime import datetime

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from .meta import Base, text, utc_datetime


class TokenRow(Base):
    """A token. The fields are those of the record.

    parent: its row takes this one with it, however many are deleted at once.
    """

    __tablename__ = "tokens"

    id: Mapped[str] = mapped_column(text(32), primary_key=True)
    user: Mapped[str] = mapped_column(text(255), index=True)
    project: Mapped[str] = mapped_column(text(255))
    digest: Mapped[str] = mapped_column(text(64), unique=True)
    is_login: Mapped[bool]
    read_only: Mapped[bool]
    created_at: Mapped[datetime] = mapped_column(utc_datetime())
    expires_at: Mapped[datetime | None] = mapped_column(utc_datetime(), index=True)
    last_used_at: Mapped[datetime | None] = mapped_column(utc_datetime())
    parent: Mapped[str | None] = mapped_column(text(32), ForeignKey("tokens.id", ondelete="CASCADE"), index=True)
    generation: Mapped[int]
