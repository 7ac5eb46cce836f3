"""What one owner may have, counted exactly whatever else goes on.

Whoever adds to an owner's images or bytes locks the owner's row first, counts the owner's others, and writes then. What
frees some needs no lock, nor does the commit of an upload: its image takes up what its claim did.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

from sqlalchemy import Connection, and_, bindparam, exists, false, func, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Session

from ...errors import LimitExceeded
from ...models import ClaimRow, ImageRow, OwnerRow, PropertyRow
from ...settings import Settings
from ..records import Status
from ..rules import check_properties

Database = Session | Connection

_IMAGES = ImageRow.owner == bindparam("owner")
_CLAIMS = and_(ClaimRow.owner == bindparam("owner"), ClaimRow.image_id != bindparam("image"))
_HAS_IMAGE = exists().where(ImageRow.id == ClaimRow.image_id, ImageRow.owner == ClaimRow.owner)

# One statement each, so that it sees an upload as its claim or as its image, and never as neither or both.
_COUNT = select(
    select(func.count(ImageRow.id)).where(_IMAGES, ImageRow.deleted == false()).scalar_subquery()
    + select(func.count(ClaimRow.key)).where(_CLAIMS, ~_HAS_IMAGE).scalar_subquery()
)
_SUM = select(
    func.coalesce(select(func.sum(ImageRow.size)).where(_IMAGES, ImageRow.status == Status.ACTIVE).scalar_subquery(), 0)
    + func.coalesce(select(func.sum(ClaimRow.size)).where(_CLAIMS).scalar_subquery(), 0)
)
_PROPERTIES = select(PropertyRow.key, PropertyRow.value).where(PropertyRow.image_id == bindparam("image"))


def admit(
    settings: Settings, database: Database, owner: str | None, image_id: str, *, is_more: bool, size: int | None
) -> int | None:
    """Lock the owner's row until the transaction ends, if the owner has room for this image of ``size`` bytes.

    is_more: the image is not the owner's yet. size: None where no bytes are added. What is not limited costs nothing.
    Returns how many bytes the image may have, None where nobody counts. Raises LimitExceeded.
    """
    images = settings.user_image_quota if is_more else None
    total = settings.user_storage_quota if size is not None else None
    if images is None and total is None:
        return None
    others = {"owner": owner or "", "image": image_id}
    # Before the lock too: where a transaction that inserted the row rolls back, MariaDB's waiters are deadlocked.
    _check(database, others, size or 0, images, total)
    database.execute(_lock(database, others["owner"]))
    return _check(database, others, size or 0, images, total)


def check_stored_properties(
    settings: Settings, session: Session, image_id: str, come: Mapping[str, str], *, purge: bool
) -> None:
    """Judge what an image's properties are about to become, whatever others made of them since it was found.

    The transaction has changed the image's row before. purge: none stays beside those that come. Raises LimitExceeded.
    """

    @cache
    def stored() -> dict[str, str]:
        return dict(session.connection().execute(_PROPERTIES, {"image": image_id}).all())

    if settings.image_property_quota is not None or settings.image_property_bytes is not None:
        check_properties(settings, come if purge else {**stored(), **come}, stored)


def _check(database: Database, others: dict[str, str], size: int, images: int | None, total: int | None) -> int | None:
    if images is not None and (count := (database.scalar(_COUNT, others) or 0) + 1) > images:
        raise LimitExceeded(f"The owner would have {count} images; {images} are accepted (pyrimage.user_image_quota).")
    if total is None:
        return None
    used = int(database.scalar(_SUM, others) or 0)  # servers sum up in decimals
    if used + size > total:
        raise LimitExceeded(
            f"The owner's images, uploads under way included, would have more than the {total} bytes "
            "that are accepted (pyrimage.user_storage_quota)."  # how many, last_error would tell all who see the image
        )
    return total - used


def _lock(database: Database, owner: str) -> Any:
    """Make the upsert that locks an owner's row, which may not be there yet."""
    connection = database.connection() if isinstance(database, Session) else database
    if connection.dialect.name in ("mysql", "mariadb"):
        upsert = mysql.insert(OwnerRow).values(id=owner)
        return upsert.on_duplicate_key_update(locks=OwnerRow.locks + 1)
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    row = insert(OwnerRow).values(id=owner)
    return row.on_conflict_do_update(index_elements=[OwnerRow.id], set_={"locks": OwnerRow.locks + 1})
