"""Who else may see an image."""

from sqlalchemy import ForeignKey
from sqlalchemy.orm import Mapped, mapped_column

from .image import ID_LENGTH, ImageRow
from .meta import Base, text


class MemberRow(Base):
    """One project that an image is shared with."""

    __tablename__ = "image_members"

    image_id: Mapped[str] = mapped_column(text(ID_LENGTH), ForeignKey(ImageRow.id), primary_key=True)
    member: Mapped[str] = mapped_column(text(255), primary_key=True, index=True)
    can_share: Mapped[bool]
