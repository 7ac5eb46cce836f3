"""The catalogue over SQL."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, bindparam, delete, false, insert, or_, select, true, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ..errors import Conflict, ImageExists, Invalid, NotFound, UploadEnded, UploadInProgress
from ..models import ClaimRow, ImageRow, LocationRow, MemberRow, PropertyRow
from ..models.claim import LIVE
from ..models.location import ACTIVE, GARBAGE
from ..records import Blob, Image, Location, Status, utcnow
from ..schemas.listing import ListQuery
from ..security import Identity

Statement = Select[*tuple[Any, ...]]
Found = Row[*tuple[Any, ...]]

# Plain rows, read by position: entities would cost three times as much (see benchmarks/).
_IMAGE = (
    ImageRow.id,
    ImageRow.name,
    ImageRow.status,
    ImageRow.size,
    ImageRow.checksum,
    ImageRow.sha256,
    ImageRow.disk_format,
    ImageRow.container_format,
    ImageRow.is_public,
    ImageRow.protected,
    ImageRow.owner,
    ImageRow.min_disk,
    ImageRow.min_ram,
    ImageRow.created_at,
    ImageRow.updated_at,
    ImageRow.deleted_at,
    ImageRow.last_error,
)
_COLUMNS = (*_IMAGE, LocationRow.store, LocationRow.key, LocationRow.owned)
_LOCATION, _PROPERTY = len(_IMAGE), len(_COLUMNS)  # positions; a property's key and value come last
_NEVER_NULL = ("name", "disk_format", "container_format", "owner")  # '' in a row is None in a record
_STORED = [column.key for column in _IMAGE]

_WITH_LOCATION = and_(LocationRow.image_id == ImageRow.id, LocationRow.state == ACTIVE)


class LocalImages:
    """Images in the database of ``session``, which joins the request's transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def find(self, image_id: str, viewer: Identity) -> Image | None:
        """Return an image and its properties with one SELECT."""
        rows = self._read(_find(viewer.is_admin, bool(viewer.project)), id=image_id, project=viewer.project)
        if not rows:
            return None
        return _record(rows[0], {row[_PROPERTY]: row[_PROPERTY + 1] for row in rows if row[_PROPERTY] is not None})

    def page(self, query: ListQuery, viewer: Identity, *, detailed: bool) -> list[Image]:
        """Return a page: one indexed SELECT for each reason to see an image, merged; one more for the properties."""
        marker = self._marker(query.marker, viewer)
        found: list[Found] = []
        scopes = _scopes(viewer, query)
        for scope in scopes:
            statement = _page(scope, query.name is not None, marker is not None)
            values: dict[str, Any] = {"limit": query.limit, "project": viewer.project, "name": query.name}
            if marker is not None:
                values |= {"created_at": marker[0], "id": marker[1]}
            found += self._read(statement, **values)
        if len(scopes) > 1:
            unique = {row[0]: row for row in found}
            found = heapq.nlargest(query.limit, unique.values(), key=lambda row: (row.created_at, row.id))
        properties = self._properties([row[0] for row in found]) if detailed and found else {}
        return [_record(row, properties.get(row[0], {})) for row in found]

    def add(self, image: Image, blob: Blob | None) -> None:
        """Insert the rows of a new image."""
        if blob is None or blob.claim is None:
            self._refuse_claimed(image.id)
        try:
            self._session.execute(insert(ImageRow), [{**_columns(image), "deleted": False}])
        except IntegrityError as error:
            raise ImageExists(f"The id {image.id} is taken.") from error
        self._add_properties(image.id, image.properties)
        self._settle(image, blob)

    def change(self, old: Image, new: Image, blob: Blob | None) -> None:
        """Update the columns and properties that differ, if the image's status is still what it was."""
        before, after = _columns(old), _columns(new)
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
            if self._read(select(ImageRow.id).where(alive)):
                raise Conflict(f"Image {image.id} was protected meanwhile.")
            raise NotFound(f"Image {image.id} is not there any more.")
        mine = and_(LocationRow.image_id == image.id, LocationRow.state == ACTIVE)
        self._write(delete(LocationRow).where(mine, LocationRow.owned == false()))
        rows = self._read(select(LocationRow.store, LocationRow.key).where(mine))
        self._write(update(LocationRow).where(mine).values(state=GARBAGE))
        return [Location(store, key) for store, key in rows]

    def _read(self, statement: Statement, **values: Any) -> Sequence[Found]:
        # On the connection: the session's own execute() costs as much again, and reads need none of its events.
        return self._session.connection().execute(statement, values).all()

    def _write(self, statement: Any) -> int:
        """Run an ORM statement, which marks the session changed; return the number of rows it found."""
        result: Any = self._session.execute(statement, execution_options={"synchronize_session": False})
        count: int = result.rowcount
        return count

    def _marker(self, marker: str | None, viewer: Identity) -> tuple[datetime, str] | None:
        if marker is None:
            return None
        visible = true() if viewer.is_admin else _visible(bool(viewer.project))
        statement = select(ImageRow.created_at, ImageRow.id).where(ImageRow.id == bindparam("id"), visible)
        for row in self._read(statement, id=marker, project=viewer.project):
            return row[0], row[1]
        raise Invalid(f"marker {marker!a} is not an image.")

    def _properties(self, image_ids: Sequence[str]) -> Mapping[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        for image_id, key, value in self._read(_PROPERTIES, ids=image_ids):
            found.setdefault(image_id, {})[key] = value
        return found

    def _add_properties(self, image_id: str, properties: Mapping[str, str]) -> None:
        if properties:
            rows = [{"image_id": image_id, "key": key, "value": value} for key, value in properties.items()]
            self._session.execute(insert(PropertyRow), rows)

    def _refuse_claimed(self, image_id: str) -> None:
        # The claim of a dead server is in nobody's way: the next upload ends it.
        if self._read(select(ClaimRow.key).where(ClaimRow.image_id == image_id, ClaimRow.lease > utcnow())):
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


def _columns(image: Image) -> dict[str, Any]:
    values = {name: getattr(image, name) for name in _STORED}
    return values | {name: values[name] or "" for name in _NEVER_NULL}


def _record(row: Found, properties: Mapping[str, str]) -> Image:
    values: dict[str, Any] = dict(zip(_STORED, row, strict=False))
    for name in _NEVER_NULL:
        values[name] = values[name] or None
    store, key, owned = row[_LOCATION:_PROPERTY]
    return Image(**values, properties=properties, location=Location(store, key, owned) if store else None)


def _visible(has_project: bool) -> ColumnElement[bool]:
    """Public, own or shared; the project is a parameter."""
    if not has_project:
        return ImageRow.is_public == true()
    shared = select(MemberRow.image_id).where(
        MemberRow.image_id == ImageRow.id, MemberRow.member == bindparam("project")
    )
    return or_(ImageRow.is_public == true(), ImageRow.owner == bindparam("project"), shared.exists())


@lru_cache
def _find(is_admin: bool, has_project: bool) -> Statement:
    statement = (
        select(*_COLUMNS, PropertyRow.key, PropertyRow.value)
        .select_from(ImageRow)
        .outerjoin(LocationRow, _WITH_LOCATION)
        .outerjoin(PropertyRow, PropertyRow.image_id == ImageRow.id)
        .where(ImageRow.id == bindparam("id"))
    )
    return statement if is_admin else statement.where(ImageRow.deleted == false(), _visible(has_project))


_PROPERTIES = select(PropertyRow.image_id, PropertyRow.key, PropertyRow.value).where(
    PropertyRow.image_id.in_(bindparam("ids", expanding=True))
)


def _scopes(viewer: Identity, query: ListQuery) -> Sequence[str]:
    """Return the reasons for which the viewer's list shows an image; each is an index of its own."""
    if viewer.is_admin and not query.default_scope:
        return ("every",) if query.is_public is None else ("public",) if query.is_public else ("private",)
    return ("public", "own", "shared") if viewer.project else ("public",)


# MariaDB has to be told: behind a marker it would rather read all that is newer as well.
_INDEXES = {
    "every": "ix_images_deleted_created_at_id",
    "public": "ix_images_is_public_deleted_created_at_id",
    "private": "ix_images_is_public_deleted_created_at_id",
    "own": "ix_images_owner_deleted_created_at_id",
}


@lru_cache
def _page(scope: str, named: bool, after_marker: bool) -> Statement:
    statement = select(*_COLUMNS).select_from(ImageRow).outerjoin(LocationRow, _WITH_LOCATION)
    if scope == "shared":
        statement = statement.join(
            MemberRow, and_(MemberRow.image_id == ImageRow.id, MemberRow.member == bindparam("project"))
        )
    alive = ImageRow.deleted == false()
    reasons: dict[str, Iterable[ColumnElement[bool]]] = {
        "every": (alive,),
        "public": (alive, ImageRow.is_public == true()),
        "private": (alive, ImageRow.is_public == false()),
        "own": (alive, ImageRow.owner == bindparam("project")),
        # Not by the indexed flag: SQLite would walk along all images to find the few that are shared.
        "shared": (ImageRow.status != Status.DELETED,),
    }
    statement = statement.where(ImageRow.status != Status.KILLED, *reasons[scope])
    if scope in _INDEXES:
        for dialect in ("mysql", "mariadb"):
            statement = statement.with_hint(ImageRow, f"FORCE INDEX ({_INDEXES[scope]})", dialect)
    if named:
        statement = statement.where(ImageRow.name == bindparam("name"))
    if after_marker:  # not as a row value: MariaDB would read all rows
        earlier = or_(ImageRow.created_at < bindparam("created_at"), ImageRow.id < bindparam("id"))
        statement = statement.where(ImageRow.created_at <= bindparam("created_at"), earlier)
    return statement.order_by(ImageRow.created_at.desc(), ImageRow.id.desc()).limit(bindparam("limit"))
