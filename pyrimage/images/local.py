"""The catalogue over SQL."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, bindparam, delete, false, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ..errors import Conflict, ImageExists, NotFound, UploadEnded, UploadInProgress
from ..models import ClaimRow, ImageRow, LocationRow, PropertyRow
from ..models.claim import LIVE
from ..models.location import ACTIVE, GARBAGE
from ..records import Blob, Image, Location, Status, utcnow
from ..schemas.image import DIGESTS
from ..schemas.listing import ListQuery
from ..security import Identity
from ..settings import Settings
from .pages import read_page
from .quotas import Quotas
from .rows import COLUMNS, WITH_LOCATION, Statement, columns, constant, read, record, visible, write

FORMATS = ("disk_format", "container_format")
ANNOUNCED = ("size", *DIGESTS)
_TICK = timedelta(microseconds=1)  # how exactly rows hold times
_LAST = datetime.fromisoformat("9999-12-31T23:59:59.999999")


class LocalImages:
    """Images in the database of ``session``, which joins the request's transaction."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self._session, self._quotas = session, Quotas(settings)

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
            self._admit(image)
            self._refuse_claimed(image.id)
        try:
            self._session.execute(insert(ImageRow), [{**columns(image), "deleted": False}])
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
            kept += [*FORMATS, *ANNOUNCED]  # the data was checked against these
        elif changed.keys() & set(FORMATS):  # they were checked against each other
            kept += FORMATS
        if blob is None and "owner" in changed:
            self._admit(new)
        same = and_(ImageRow.id == old.id, *(getattr(ImageRow, name) == before[name] for name in kept))
        moment = self._update(same, changed, new.updated_at)
        if moment is None:
            raise Conflict(
                f"Image {old.id} is no longer {old.status}, or has another owner or other formats"
                f"{'' if blob is None else ', or another size or digest is announced'}."
            )
        self._change_properties(old, new, purge=purge)
        self._settle(new, blob)
        return dataclasses.replace(new, updated_at=moment)

    def remove(self, image: Image) -> Sequence[Location]:
        """Mark the row deleted, turn owned locations into garbage, drop registered ones.

        Memberships stay, for nothing but that the image may still be a marker of its members' lists.
        """
        now = utcnow()
        final = {"final_status": ImageRow.status, "final_updated_at": ImageRow.updated_at}
        values = {"status": Status.DELETED, "deleted": True, "deleted_at": now}
        alive = and_(ImageRow.id == image.id, ImageRow.deleted == false())
        same = and_(alive, ImageRow.protected == image.protected, ImageRow.owner == (image.owner or ""))
        if self._update(same, {**final, **values}, now) is None:
            if read(self._session, select(ImageRow.id).where(alive)):
                raise Conflict(f"Image {image.id} was protected or given away meanwhile.")
            raise NotFound(f"Image {image.id} is not there any more.")
        mine = and_(LocationRow.image_id == image.id, LocationRow.state == ACTIVE)
        write(self._session, delete(LocationRow).where(mine, LocationRow.owned == false()))
        rows = read(self._session, select(LocationRow.store, LocationRow.key).where(mine))
        write(self._session, update(LocationRow).where(mine).values(state=GARBAGE))
        return [Location(store, key) for store, key in rows]

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
        rows = read(self._session, select(ImageRow.updated_at).where(same).with_for_update())
        if not rows:
            return None
        moment = max(now, min(rows[0][0], _LAST - _TICK) + _TICK)
        write(self._session, statement.ordered_values(*values.items(), ("updated_at", moment)))
        return moment

    def _admit(self, image: Image) -> None:
        """Refuse an image for which its owner has no room. That of an upload was admitted with its claim."""
        size = image.size if image.status == Status.ACTIVE else 0
        self._quotas.admit(self._session, image.owner, image.id, is_more=True, size=size or None)

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
            self._quotas.check_properties(self._session, old.id, come, purge=purge)
            write(self._session, delete(PropertyRow).where(gone))
        self._add_properties(old.id, come)

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
        if blob.claim is not None and not write(self._session, delete(ClaimRow).where(_is_claim_of(image, blob))):
            raise UploadEnded(f"The upload into image {image.id} took longer than its lease, and was ended.")


class ActiveImages:
    """All images that have bytes, without their properties: each call is a short transaction of its own.

    page: so many rows are read at once, and held in memory.
    """

    def __init__(self, engine: Engine, page: int = 500) -> None:
        self._engine, self._page = engine, page

    def __iter__(self) -> Iterator[Image]:
        """Give the images in the order of their ids; no connection is held meanwhile."""
        last, statement = "", select(ImageRow.id).where(_IS_ACTIVE, ImageRow.id > bindparam("last"))
        statement = statement.order_by(ImageRow.id).limit(self._page)
        while True:
            with self._engine.connect() as connection:
                ids = connection.scalars(statement, {"last": last}).all()
            if not ids:
                return
            yield from self._read(ids)
            last = ids[-1]

    def find(self, image_id: str) -> Image | None:
        """Return an image if it is still active."""
        return next(iter(self._read([image_id])), None)

    def total(self) -> tuple[int, int]:
        """Return how many images there are, and the bytes of all."""
        statement = select(func.count(), func.coalesce(func.sum(ImageRow.size), 0)).where(_IS_ACTIVE)
        with self._engine.connect() as connection:
            count, size = connection.execute(statement).one()
        return count, int(size)  # a Decimal, for some databases

    def _read(self, ids: Sequence[str]) -> Sequence[Image]:
        # By their ids: joined with a range of them, PostgreSQL would read all locations before it again for each page.
        with self._engine.connect() as connection:
            return [record(row, {}) for row in connection.execute(_ACTIVE, {"ids": ids})]


_IS_ACTIVE = ImageRow.status == constant(Status.ACTIVE)
_ACTIVE: Statement = (
    select(*COLUMNS)
    .select_from(ImageRow)
    .outerjoin(LocationRow, WITH_LOCATION)
    .where(_IS_ACTIVE, ImageRow.id.in_(bindparam("ids", expanding=True)))
    .order_by(ImageRow.id)
)


def _is_claim_of(image: Image, blob: Blob) -> ColumnElement[bool]:
    """Select the live claim of this upload; who sends it from elsewhere may name another one's, or one of less."""
    store = () if blob.location is None else (ClaimRow.store == blob.location.store,)
    enough = or_(ClaimRow.size.is_(None), ClaimRow.size >= blob.size)
    mine = (ClaimRow.image_id == image.id, ClaimRow.owner == (image.owner or ""))
    return and_(ClaimRow.key == blob.claim, *mine, *store, enough, ClaimRow.state == LIVE)


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
