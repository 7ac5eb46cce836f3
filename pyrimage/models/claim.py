"""Uploads under way."""

from datetime import datetime

from sqlalchemy import BigInteger
from sqlalchemy.orm import Mapped, mapped_column

from ..catalogue.records import LOCATION_LENGTH
from ..settings import STORE_NAME_LENGTH
from .image import ID_LENGTH
from .meta import Base, text, utc_datetime

LIVE = "live"
ENDING = "ending"


class ClaimRow(Base):
    """The right to upload into one image id, and what has to be cleaned up if the server dies.

    size: bytes declared, or held for the owner while they come; null if nobody knows or counts.
    lease: when the claim expires unless it is renewed.
    state: ``live``, or ``ending`` while somebody cleans up after an expired one. server: who holds it.
    """

    __tablename__ = "claims"

    key: Mapped[str] = mapped_column(text(LOCATION_LENGTH), primary_key=True)
    image_id: Mapped[str] = mapped_column(text(ID_LENGTH), unique=True)
    store: Mapped[str] = mapped_column(text(STORE_NAME_LENGTH))
    owner: Mapped[str] = mapped_column(text(255), index=True)
    size: Mapped[int | None] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(text(20))
    lease: Mapped[datetime] = mapped_column(utc_datetime(), index=True)
    server: Mapped[str] = mapped_column(text(255))
