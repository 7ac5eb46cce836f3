"""The catalogue over SQL."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import and_, bindparam, delete, false, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ..errors import Conflict, ImageExists, NotFound, UploadEnded, UploadInProgress
from ..models import ClaimRow, ImageRow, LocationRow, PropertyRow
from ..models.claim import LIVE
from ..models.location import ACTIVE, GARBAGE
from ..records import Blob, Image, Location, Status, utcnow
from ..schemas.listing import ListQuery
from ..security import Identity
from .pages import read_page
from .rows import COLUMNS, WITH_LOCATION, Statement, columns, read, record, visible


class LocalImages:
    """Images in the database of ``session``, which joins the request's transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, image_id: str, viewer: Identity) -> Image | None:
        """Return an image and its properties with one SELECT."""
        rows = read(self._session, _find(viewer.is_admin, bool(viewer.project)), id=image_id, project=viewer.project)
        if not rows:
            return None
        return record(rows[0], {key: value for *_, key, value in rows if key is not None})

    def page(self, query: ListQuery, viewer: Identity, *, detailed: bool) -> list[Image]:
        """Return a page of the list that ``query`` asks for."""
        return read_page(self._session, query, viewer, detailed=detailed)

    def add(self, image: Image, blob: Blob | None) -> None:
        """Insert the rows of a new image."""
        if blob is None or blob.claim is None:
            self._refuse_claimed(image.id)
        try:
            self._session.execute(insert(ImageRow), [{**columns(image), "deleted": False}])
        except IntegrityError as error:
            raise ImageExists(f"The id {image.id} is taken.") from error
        self._add_properties(image.id, image.properties)
        self._settle(image, blob)

    def change(self, old: Image, new: Image, blob: Blob | None) -> None:
        """Update the columns and properties that differ, if the image's status is still what it was."""
        before, after = columns(old), columns(new)
        changed = {name: value for name, value in after.items() if value != before[name]}
        changed["status"] = new.status  # an UPDATE needs a column, also where only properties differ
        if blob is not None:
            changed["last_error"] = None  # one may have been noted since ``old`` was found
        done = self._write(update(ImageRow).where(ImageRow.id == old.id, ImageRow.status == old.status).values(changed))
        if not done:
            raise Conflict(f"Image {old.id} is no longer {old.status}.")
        keys = old.properties.keys() | new.properties.keys()
        touched = [key for key in keys if old.properties.get(key) != new.properties.get(key)]
        if touched:  # new keys as well: another change may have added them since ``old`` was found
            self._write(delete(PropertyRow).where(PropertyRow.image_id == old.id, PropertyRow.key.in_(touched)))
        self._add_properties(old.id, {key: new.properties[key] for key in touched if key in new.properties})
        self._settle(new, blob)

    def remove(self, image: Image) -> Sequence[Location]:
        """Mark the row deleted, turn owned locations into garbage, drop registered ones.

        Memberships stay, for nothing but that the image may still be a marker of its members' lists.
        """
        now = utcnow()
        values = {"status": Status.DELETED, "deleted": True, "deleted_at": now, "updated_at": now}
        alive = and_(ImageRow.id == image.id, ImageRow.deleted == false())
        if not self._write(update(ImageRow).where(alive, ImageRow.protected == image.protected).values(values)):
            if read(self._session, select(ImageRow.id).where(alive)):
                raise Conflict(f"Image {image.id} was protected meanwhile.")
            raise NotFound(f"Image {image.id} is not there any more.")
        mine = and_(LocationRow.image_id == image.id, LocationRow.state == ACTIVE)
        self._write(delete(LocationRow).where(mine, LocationRow.owned == false()))
        rows = read(self._session, select(LocationRow.store, LocationRow.key).where(mine))
        self._write(update(LocationRow).where(mine).values(state=GARBAGE))
        return [Location(store, key) for store, key in rows]

    def _write(self, statement: Any) -> int:
        """Run an ORM statement, which marks the session changed; return the number of rows it found."""
        result: Any = self._session.execute(statement, execution_options={"synchronize_session": False})
        count: int = result.rowcount
        return count

    def _add_properties(self, image_id: str, properties: Mapping[str, str]) -> None:
        if properties:
            rows = [{"image_id": image_id, "key": key, "value": value} for key, value in properties.items()]
            self._session.execute(insert(PropertyRow), rows)

    def _refuse_claimed(self, image_id: str) -> None:
        # The claim of a dead server is in nobody's way: the next upload ends it.
        if read(self._session, select(ClaimRow.key).where(ClaimRow.image_id == image_id, ClaimRow.lease > utcnow())):
            raise UploadInProgress(f"An upload under the id {image_id} is under way.")

    def _settle(self, image: Image, blob: Blob | None) -> None:
        """Record where the bytes of an upload lie, and end its claim."""
        if blob is None:
            return
        if blob.location is not None:
            row = {"image_id": image.id, "store": blob.location.store, "key": blob.location.key}
            self._session.execute(insert(LocationRow), [{**row, "owned": True, "state": ACTIVE}])
        if blob.claim is not None and not self._write(
            delete(ClaimRow).where(ClaimRow.key == blob.claim, ClaimRow.state == LIVE)
        ):
            raise UploadEnded(f"The upload into image {image.id} took longer than its lease, and was ended.")


@lru_cache
def _find(is_admin: bool, has_project: bool) -> Statement:
    statement = (
        select(*COLUMNS, PropertyRow.key, PropertyRow.value)
        .select_from(ImageRow)
        .outerjoin(LocationRow, WITH_LOCATION)
        .outerjoin(PropertyRow, PropertyRow.image_id == ImageRow.id)
        .where(ImageRow.id == bindparam("id"))
    )
    return statement if is_admin else statement.where(ImageRow.deleted == false(), visible(has_project))
