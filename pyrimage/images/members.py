"""Members of images over SQL."""

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, and_, bindparam, delete, false, func, insert, select, update
from sqlalchemy.orm import Session

from ..errors import LimitExceeded, NotFound
from ..models import ImageRow, MemberRow
from ..records import Member
from ..settings import Settings
from .rows import read, write

_COLUMNS = (MemberRow.image_id, MemberRow.member, MemberRow.can_share)
_ALL = select(*_COLUMNS).where(MemberRow.image_id == bindparam("image_id")).order_by(MemberRow.member)
_ONE = select(*_COLUMNS).where(MemberRow.image_id == bindparam("image_id"), MemberRow.member == bindparam("member"))
_COUNT = select(func.count()).where(MemberRow.image_id == bindparam("image_id"))
_SHARED = (
    select(*_COLUMNS)
    .join(ImageRow, and_(ImageRow.id == MemberRow.image_id, ImageRow.deleted == false()))
    .where(MemberRow.member == bindparam("member"))
    .order_by(MemberRow.image_id)
)


class LocalMembers:
    """Memberships in the database of ``session``, which joins the request's transaction."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self._session, self._quota = session, settings.image_member_quota

    def of(self, image_id: str) -> Sequence[Member]:
        """Return the members of an image."""
        return [Member(*row) for row in read(self._session, _ALL, image_id=image_id)]

    def find(self, image_id: str, member: str) -> Member | None:
        """Return one member of an image."""
        rows = read(self._session, _ONE, image_id=image_id, member=member)
        return Member(*rows[0]) if rows else None

    def hold(self, image_id: str) -> None:
        """Lock the image's row."""
        alive = and_(ImageRow.id == image_id, ImageRow.deleted == false())
        if not write(self._session, update(ImageRow).where(alive).values(locks=ImageRow.locks + 1)):
            raise NotFound(f"Image {image_id} is not there any more.")

    def put(self, image_id: str, member: str, can_share: bool | None) -> None:
        """Insert or update a member's row."""
        self.hold(image_id)
        if self.find(image_id, member) is None:
            if self._quota is not None:
                [[count]] = read(self._session, _COUNT, image_id=image_id)
                self._check(image_id, count + 1)
            self._insert(image_id, {member: can_share})
        elif can_share is not None:
            write(self._session, update(MemberRow).where(_is(image_id, member)).values(can_share=can_share))

    def replace(self, image_id: str, memberships: Mapping[str, bool | None]) -> None:
        """Delete all rows of an image and insert those that shall be: no statement grows with their number."""
        self.hold(image_id)
        before = {each.member: each.can_share for each in self.of(image_id)}
        if memberships.keys() - before.keys():
            self._check(image_id, len(memberships))
        write(self._session, delete(MemberRow).where(MemberRow.image_id == image_id))
        kept = {name: before.get(name) if can_share is None else can_share for name, can_share in memberships.items()}
        self._insert(image_id, kept)

    def remove(self, image_id: str, member: str) -> None:
        """Delete a member's row."""
        self.hold(image_id)  # else a replacement that keeps the member could hide it from the DELETE
        if not write(self._session, delete(MemberRow).where(_is(image_id, member))):
            raise NotFound(f"{member!a} is not a member of image {image_id}.")

    def shared_with(self, member: str) -> Sequence[Member]:
        """Return the memberships of a project in live images; why others have rows, ``LocalImages.remove`` tells."""
        return [Member(*row) for row in read(self._session, _SHARED, member=member)]

    def _check(self, image_id: str, count: int) -> None:
        if self._quota is not None and count > self._quota:
            raise LimitExceeded(
                f"Image {image_id} would have {count} members; "
                f"{self._quota} are accepted (pyrimage.image_member_quota)."
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
