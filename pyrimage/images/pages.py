"""Pages of the lists over SQL."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, false, or_, select, true
from sqlalchemy.orm import Session

from ..errors import Invalid
from ..models import ImageRow, LocationRow, MemberRow, PropertyRow
from ..records import Image, Status
from ..schemas.listing import ListQuery
from ..security import Identity
from .rows import COLUMNS, WITH_LOCATION, Found, Statement, read, record, visible


def read_page(session: Session, query: ListQuery, viewer: Identity, *, detailed: bool) -> list[Image]:
    """Return a page: one indexed SELECT for each reason to see an image, merged; one more for the properties."""
    marker = _marker(session, query.marker, viewer)
    found: list[Found] = []
    scopes = _scopes(viewer, query)
    for scope in scopes:
        statement = _page(scope, query.name is not None, marker is not None)
        values: dict[str, Any] = {"limit": query.limit, "project": viewer.project, "name": query.name}
        if marker is not None:
            values |= {"created_at": marker[0], "id": marker[1]}
        found += read(session, statement, **values)
    if len(scopes) > 1:
        unique = {row[0]: row for row in found}
        found = heapq.nlargest(query.limit, unique.values(), key=lambda row: (row.created_at, row.id))
    properties = _properties(session, [row[0] for row in found]) if detailed and found else {}
    return [record(row, properties.get(row[0], {})) for row in found]


def _marker(session: Session, marker: str | None, viewer: Identity) -> tuple[datetime, str] | None:
    if marker is None:
        return None
    seen = true() if viewer.is_admin else visible(bool(viewer.project))
    statement = select(ImageRow.created_at, ImageRow.id).where(ImageRow.id == bindparam("id"), seen)
    for row in read(session, statement, id=marker, project=viewer.project):
        return row[0], row[1]
    raise Invalid(f"marker {marker!a} is not an image.")


def _properties(session: Session, image_ids: Sequence[str]) -> Mapping[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for image_id, key, value in read(session, _PROPERTIES, ids=image_ids):
        found.setdefault(image_id, {})[key] = value
    return found


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
    statement = select(*COLUMNS).select_from(ImageRow).outerjoin(LocationRow, WITH_LOCATION)
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
