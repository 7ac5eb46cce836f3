"""Changes of whom images are shared with, over SQL."""

from collections.abc import Mapping

from sqlalchemy import ColumnElement, and_, bindparam, delete, false, func, insert, select, update
from sqlalchemy.orm import Session

from ...errors import LimitExceeded, NotFound, RightLost
from ...models import ImageRow, MemberRow
from ...settings import Settings
from ..records import Identity, Location
from ..rules import not_there
from .rows import write

_OF_IMAGE = MemberRow.image_id == bindparam("image_id")
_ALL = select(MemberRow.member, MemberRow.can_share).where(_OF_IMAGE)
_ONE = _ALL.where(MemberRow.member == bindparam("member"))
_COUNT = select(func.count()).where(_OF_IMAGE)
_RIGHTS = (
    select(ImageRow.owner, MemberRow.can_share)
    .outerjoin(MemberRow, and_(MemberRow.image_id == ImageRow.id, MemberRow.member == bindparam("project")))
    .where(ImageRow.id == bindparam("image_id"))
)


class MemberWrites:
    """Each locks the image's row first, and then looks again whether the caller may do it."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self._session, self._settings = session, settings
        self.garbage: list[Location] = []

    def put_member(self, image_id: str, member: str, can_share: bool | None, caller: Identity) -> None:
        """Insert or update a member's row."""
        self._lock(image_id, caller)
        connection = self._session.connection()
        if not connection.execute(_ONE, {"image_id": image_id, "member": member}).all():
            if self._settings.image_member_quota is not None:
                [[count]] = connection.execute(_COUNT, {"image_id": image_id}).all()
                self._check_quota(image_id, count + 1)
            self._insert(image_id, {member: can_share})
        elif can_share is not None:
            write(self._session, update(MemberRow).where(_is(image_id, member)).values(can_share=can_share))

    def replace_members(self, image_id: str, memberships: Mapping[str, bool | None], caller: Identity) -> None:
        """Delete all rows of an image and insert those that shall be: no statement grows with their number."""
        self._lock(image_id, caller)
        before: dict[str, bool] = dict(self._session.connection().execute(_ALL, {"image_id": image_id}).all())
        if memberships.keys() - before.keys():
            self._check_quota(image_id, len(memberships))
        write(self._session, delete(MemberRow).where(MemberRow.image_id == image_id))
        kept = {name: before.get(name) if can_share is None else can_share for name, can_share in memberships.items()}
        self._insert(image_id, kept)

    def remove_member(self, image_id: str, member: str, caller: Identity) -> None:
        """Delete a member's row."""
        self._lock(image_id, None if caller.project == member else caller)
        if not write(self._session, delete(MemberRow).where(_is(image_id, member))):
            raise NotFound(f"{member!a} is not a member of image {image_id}.")

    def _lock(self, image_id: str, caller: Identity | None) -> None:
        """Lock the image's row, then see whether the caller may share it; None may in any case."""
        alive = and_(ImageRow.id == image_id, ImageRow.deleted == false())
        if not write(self._session, update(ImageRow).where(alive).values(locks=ImageRow.locks + 1)):
            raise not_there(image_id)
        if caller is None or caller.is_admin:
            return
        asked = {"image_id": image_id, "project": caller.project}
        [[owner, can_share]] = self._session.connection().execute(_RIGHTS, asked).all()
        if not caller.project or (caller.project != owner and not can_share):
            raise RightLost(f"{caller.project!a} may not share image {image_id} any more.")

    def _check_quota(self, image_id: str, count: int) -> None:
        quota = self._settings.image_member_quota
        if quota is not None and count > quota:
            raise LimitExceeded(
                f"Image {image_id} would have {count} members; {quota} are accepted (pyrimage.image_member_quota)."
            )

    def _insert(self, image_id: str, memberships: Mapping[str, bool | None]) -> None:
        rows = [
            {"image_id": image_id, "member": member, "can_share": bool(can_share)}
            for member, can_share in memberships.items()
        ]
        if rows:
            self._session.execute(insert(MemberRow), rows)


def _is(image_id: str, member: str) -> ColumnElement[bool]:
    return and_(MemberRow.image_id == image_id, MemberRow.member == member)
