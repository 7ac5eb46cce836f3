"""Requests that a registry has answered, so that one that comes again changes nothing."""

from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from .meta import Base, long_text, text, utc_datetime


class AnsweredRow(Base):
    """A request that changed something, by its idempotency key; kept for a while.

    request: digest of what was asked, and by whom. answer: the JSON that it was answered with, empty for none.
    """

    __tablename__ = "answered_requests"

    key: Mapped[str] = mapped_column(text(255), primary_key=True)
    request: Mapped[str] = mapped_column(text(64))
    answer: Mapped[str] = mapped_column(long_text())
    answered_at: Mapped[datetime] = mapped_column(utc_datetime(), index=True)
