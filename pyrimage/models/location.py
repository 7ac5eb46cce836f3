"""Where bytes lie."""

from sqlalchemy import BigInteger, ForeignKey, Index, Integer
from sqlalchemy.orm import Mapped, mapped_column

from ..catalogue.records import LOCATION_LENGTH
from ..settings import STORE_NAME_LENGTH
from .image import ID_LENGTH, ImageRow
from .meta import Base, text

ACTIVE = "active"
GARBAGE = "garbage"


class LocationRow(Base):
    """Bytes of one image in one store; never with credentials.

    state: ``active``, or ``garbage`` from the commit that gave the bytes up until they are gone.
    """

    __tablename__ = "image_locations"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    image_id: Mapped[str] = mapped_column(text(ID_LENGTH), ForeignKey(ImageRow.id))
    store: Mapped[str] = mapped_column(text(STORE_NAME_LENGTH))
    key: Mapped[str] = mapped_column(text(LOCATION_LENGTH), index=True)
    owned: Mapped[bool]
    state: Mapped[str] = mapped_column(text(20), index=True)

    # With the state: else SQLite and MariaDB look for an image's location among all that are active.
    __table_args__ = (Index(None, "image_id", "state"),)
