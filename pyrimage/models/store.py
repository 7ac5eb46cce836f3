"""Which directory, or bucket, is a store's."""

from sqlalchemy.orm import Mapped, mapped_column

from ..settings import STORE_NAME_LENGTH
from .meta import Base, text


class StoreRow(Base):
    """One store that was used. identity: what its place carries as well, so that another one is told from it."""

    __tablename__ = "stores"

    name: Mapped[str] = mapped_column(text(STORE_NAME_LENGTH), primary_key=True)
    identity: Mapped[str] = mapped_column(text(64))
