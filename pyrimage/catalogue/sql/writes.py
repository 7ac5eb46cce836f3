"""Changes of the catalogue over SQL, in one transaction."""

import dataclasses
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, and_, delete, false, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from ...errors import (
    Conflict,
    ImageExists,
    PreconditionFailed,
    PyrimageError,
    UploadEnded,
    UploadInProgress,
)
from ...models import AnsweredRow, ClaimRow, ImageRow, LocationRow, PropertyRow
from ...models.claim import LIVE
from ...models.location import ACTIVE, GARBAGE
from ..interfaces import Answer
from ..records import FACTS, Blob, Image, Location, Status, utcnow
from ..rules import FORMATS, changed_meanwhile, not_there, protected_meanwhile
from .members import MemberWrites
from .quotas import admit, check_stored_properties
from .rows import columns, write

_TICK = timedelta(microseconds=1)  # how exactly rows hold times
_LAST = datetime.fromisoformat("9999-12-31T23:59:59.999999")


class SqlWrites(MemberWrites):
    """Changes on ``session``, which joins its transaction at the first statement."""

    def add(self, image: Image, blob: Blob | None) -> None:
        """Insert the rows of a new image."""
        if blob is None or blob.claim is None:
            self._admit(image, is_more=True)
            self._refuse_claimed(image.id)
        try:
            self._session.execute(insert(ImageRow), [columns(image)])
        except IntegrityError as error:
            raise ImageExists(f"The id {image.id} is taken.") from error
        self._add_properties(image.id, image.properties)
        self._settle(image, blob)

    def change(self, old: Image, new: Image, blob: Blob | None, *, purge: bool) -> Image:
        """Update the columns and properties that differ, if what they were checked against is still what it was.

        The owner too, for an upload's claim counts among its bytes.
        """
        before, after = columns(old), columns(new)
        changed = {name: value for name, value in after.items() if value != before[name] and name != "updated_at"}
        kept = ["status", "owner"]
        if blob is not None:
            changed["last_error"] = None  # one may have been noted since ``old`` was found
            kept += [*FORMATS, *FACTS]  # the data was checked against these
        elif changed.keys() & set(FORMATS):  # they were checked against each other
            kept += FORMATS
        if blob is not None and blob.claim is None:  # registered
            self._admit(new, is_more="owner" in changed)
            self._refuse_claimed(old.id)
        elif blob is None and "owner" in changed:
            self._admit(new, is_more=True)
        same = and_(ImageRow.id == old.id, *(getattr(ImageRow, name) == before[name] for name in kept))
        updated_at = self._update(same, changed, new.updated_at)
        if updated_at is None:
            raise changed_meanwhile(old, has_data=blob is not None)
        self._change_properties(old, new, purge=purge)
        self._settle(new, blob)
        return dataclasses.replace(new, updated_at=updated_at)

    def remove(self, image: Image, *, keep_status: bool) -> Image:
        """Mark the row deleted, turn owned locations into garbage, drop registered ones.

        Memberships stay, for nothing but that the image may still be a marker of its members' lists.
        """
        now = utcnow()
        final = {"final_status": ImageRow.status, "final_updated_at": ImageRow.updated_at}
        values = {"status": Status.DELETED, "deleted": True, "deleted_at": now}
        alive = and_(ImageRow.id == image.id, ImageRow.deleted == false())
        same = and_(alive, ImageRow.protected == image.protected, ImageRow.owner == (image.owner or ""))
        kept = and_(same, ImageRow.status == image.status) if keep_status else same
        updated_at = self._update(kept, {**final, **values}, now)
        if updated_at is None:
            raise self._reason_to_stay(image, alive, same)
        mine = and_(LocationRow.image_id == image.id, LocationRow.state == ACTIVE)
        write(self._session, delete(LocationRow).where(mine, LocationRow.owned == false()))
        owned = select(LocationRow.store, LocationRow.key).where(mine)
        rows = self._session.connection().execute(owned).all()
        write(self._session, update(LocationRow).where(mine).values(state=GARBAGE))
        self.garbage += [Location(store, key) for store, key in rows]
        return dataclasses.replace(
            image, status=Status.DELETED, deleted=True, deleted_at=now, updated_at=updated_at, location=None
        )

    def note_answer(self, answer: Answer) -> None:
        """Insert the answer; where another request with its key is under way, this waits for what becomes of that."""
        row = {"key": answer.key, "request": answer.request, "answer": answer.body, "answered_at": utcnow()}
        try:
            self._session.execute(insert(AnsweredRow), [row])
        except IntegrityError as error:
            raise Conflict("A request with this key was answered meanwhile.") from error

    def _reason_to_stay(self, image: Image, alive: ColumnElement[bool], same: ColumnElement[bool]) -> PyrimageError:
        connection = self._session.connection()
        if connection.execute(select(ImageRow.id).where(same)).all():
            return PreconditionFailed(f"Image {image.id} is no longer {image.status}.")
        if connection.execute(select(ImageRow.id).where(alive)).all():
            return protected_meanwhile(image)
        return not_there(image.id)

    def _update(self, same: ColumnElement[bool], values: Mapping[str, Any], now: datetime) -> datetime | None:
        """Update an image's row, and return its new ``updated_at``; None if there is no such row.

        That is ``now``, or just after what it was: clocks go back, and of two changes at once the second to be written
        may have been the first to look at the clock. A list of what changed since would miss such a change for ever.
        """
        statement = update(ImageRow).where(same)
        # In the order given: MariaDB sets one after the other.
        forward = statement.where(ImageRow.updated_at < now).ordered_values(*values.items(), ("updated_at", now))
        if write(self._session, forward):
            return now
        known = select(ImageRow.updated_at).where(same).with_for_update()
        rows = self._session.connection().execute(known).all()
        if not rows:
            return None
        updated_at = max(now, min(rows[0][0], _LAST - _TICK) + _TICK)
        write(self._session, statement.ordered_values(*values.items(), ("updated_at", updated_at)))
        return updated_at

    def _admit(self, image: Image, *, is_more: bool) -> None:
        """Refuse an image for which its owner has no room. That of an upload was admitted with its claim.

        is_more: the owner did not have it so far.
        """
        size = image.size if image.status == Status.ACTIVE else 0
        admit(self._settings, self._session, image.owner, image.id, is_more=is_more, size=size or None)

    def _add_properties(self, image_id: str, properties: Mapping[str, str]) -> None:
        if properties:
            rows = [{"image_id": image_id, "key": key, "value": value} for key, value in properties.items()]
            self._session.execute(insert(PropertyRow), rows)

    def _change_properties(self, old: Image, new: Image, *, purge: bool) -> None:
        # All that is stored gives way, not just what ``old`` had: another change may have come between.
        come, gone = new.properties, PropertyRow.image_id == old.id
        if not purge:
            come = {key: value for key, value in come.items() if old.properties.get(key) != value}
            gone = and_(gone, PropertyRow.key.in_(come))
        if purge or come:
            check_stored_properties(self._settings, self._session, old.id, come, purge=purge)
            write(self._session, delete(PropertyRow).where(gone))
        self._add_properties(old.id, come)

    def _refuse_claimed(self, image_id: str) -> None:
        # The claim of a dead server is in nobody's way: the next upload ends it.
        live = and_(ClaimRow.image_id == image_id, ClaimRow.lease > utcnow())
        if self._session.connection().execute(select(ClaimRow.key).where(live)).all():
            raise UploadInProgress(f"An upload under the id {image_id} is under way.")

    def _settle(self, image: Image, blob: Blob | None) -> None:
        """Record where the bytes of an upload lie, and end its claim."""
        if blob is None:
            return
        if blob.location is not None:
            row = {"image_id": image.id, **dataclasses.asdict(blob.location), "state": ACTIVE}
            self._session.execute(insert(LocationRow), [row])
        if blob.claim is not None and not write(self._session, delete(ClaimRow).where(_is_claim_of(image, blob))):
            raise UploadEnded(f"The upload into image {image.id} took longer than its lease, and was ended.")


def _is_claim_of(image: Image, blob: Blob) -> ColumnElement[bool]:
    """Select the live claim of this upload; who sends it from elsewhere may name another one's, or one of less."""
    store = () if blob.location is None else (ClaimRow.store == blob.location.store,)
    enough = or_(ClaimRow.size.is_(None), ClaimRow.size >= blob.size)
    mine = (ClaimRow.image_id == image.id, ClaimRow.owner == (image.owner or ""))
    return and_(ClaimRow.key == blob.claim, *mine, *store, enough, ClaimRow.state == LIVE)
