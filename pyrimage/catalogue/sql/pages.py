"""Pages of the lists over SQL."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, bindparam, false, func, or_, select, true, tuple_, union_all

from ...errors import Invalid
from ..queries import ListQuery
from ..records import SUMMARY_FIELDS, Identity, Image, ImageSummary, Status
from .rows import (
    COLUMNS,
    IMAGES,
    LOCATIONS,
    MEMBERS,
    PROPERTIES,
    WITH_LOCATION,
    Found,
    PageSelect,
    Statement,
    constant,
    record,
    summary,
    visible,
)


@dataclass(frozen=True, slots=True)
class Order:
    """What a list is sorted by, ties by ``created_at`` and ``id``; one direction for all."""

    sort_key: str
    descending: bool

    @property
    def names(self) -> Sequence[str]:
        """The columns, up to the one that leaves no ties."""
        return ("id",) if self.sort_key == "id" else tuple(dict.fromkeys((self.sort_key, "created_at", "id")))


def read_page(connection: Connection, query: ListQuery, viewer: Identity) -> list[Image]:
    """Return a page with one SELECT; one more for its properties, and one for the marker."""
    found = _found(connection, query, viewer, detailed=True)
    properties = _properties(connection, [row[0] for row in found]) if found else {}
    return [record(row, properties.get(row[0], {})) for row in found]


def read_brief_page(connection: Connection, query: ListQuery, viewer: Identity) -> list[ImageSummary]:
    """Return the same page with one SELECT, of fewer columns; and one for the marker."""
    return [summary(row) for row in _found(connection, query, viewer, detailed=False)]


def _found(connection: Connection, query: ListQuery, viewer: Identity, *, detailed: bool) -> Sequence[Found]:
    """Find where the page begins, and read its rows."""
    order = Order(query.sort_key, query.descending)
    cursor = None if query.marker is None else _marker(connection, query, order, viewer)
    fixed = getattr(query, query.sort_key, None)
    if fixed is not None:  # one value for all the images: they come in the order of their times
        if cursor is not None and cursor[0] != fixed:
            if (cursor[0] < fixed) == order.descending:
                return []
            cursor = None
        order = Order("created_at", order.descending)
        cursor = cursor and cursor[1:]
    return _rows(connection, query, viewer, order, cursor, detailed=detailed)


def _rows(
    connection: Connection,
    query: ListQuery,
    viewer: Identity,
    order: Order,
    cursor: Sequence[Any] | None,
    *,
    detailed: bool,
) -> Sequence[Found]:
    """Read the rows of a page: those behind the cursor, or the first ones if it is None."""
    scopes = _scopes(viewer, query)
    filters = tuple(name for name in _FILTERS if getattr(query, name) is not None)
    values: dict[str, Any] = {"limit": query.limit, "project": viewer.project}
    values |= {name: getattr(query, name) for name in filters}
    for number, (key, value) in enumerate(query.properties):
        values |= {f"key_{number}": key, f"value_{number}": value}
    if cursor is not None:
        values |= {f"marker_{name}": value for name, value in zip(order.names, cursor, strict=True)}
    dialect = connection.dialect.name
    statement = _page(
        scopes, filters, _shown(query), len(query.properties), order, cursor is not None, dialect, detailed
    )
    found = connection.execute(statement, values).all()
    return found if len(scopes) == 1 else _merged(found, order)[: query.limit]


def _merged(rows: Iterable[Found], order: Order) -> Sequence[Found]:
    """Sort the pages of several scopes into one; an image may be on each of them."""
    unique = {row[0]: row for row in rows}.values()
    return sorted(unique, key=attrgetter(*order.names), reverse=order.descending)


def _marker(connection: Connection, query: ListQuery, order: Order, viewer: Identity) -> Sequence[Any]:
    """Return where the page begins: the marker's values of what the list is sorted by."""
    statement = _cursor(order, viewer.is_admin, bool(viewer.project), _shown(query) is not False)
    for row in connection.execute(statement, {"id": query.marker, "project": viewer.project}).all():
        return row
    raise Invalid(f"marker {query.marker!a} is not an image.")


# What a deletion changes: a list that showed the marker while it was alive goes on from where it stood then.
_UNTIL_DELETED = {
    "status": func.coalesce(IMAGES.c.final_status, IMAGES.c.status),
    "updated_at": func.coalesce(IMAGES.c.final_updated_at, IMAGES.c.updated_at),
}


@lru_cache
def _cursor(order: Order, is_admin: bool, has_project: bool, shows_deleted: bool) -> Statement:
    stood = {} if shows_deleted else _UNTIL_DELETED
    columns: list[Any] = [stood.get(name, IMAGES.c[name]) for name in order.names]
    return select(*columns).where(IMAGES.c.id == bindparam("id"), true() if is_admin else visible(has_project))


def _properties(connection: Connection, image_ids: Sequence[str]) -> Mapping[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for image_id, key, value in connection.execute(_PROPERTIES, {"ids": image_ids}).all():
        found.setdefault(image_id, {})[key] = value
    return found


_PROPERTIES = select(PROPERTIES.c.image_id, PROPERTIES.c.key, PROPERTIES.c.value).where(
    PROPERTIES.c.image_id.in_(bindparam("ids", expanding=True))
)


def _scopes(viewer: Identity, query: ListQuery) -> tuple[str, ...]:
    """Return the kinds of images that the viewer's list shows; each is an index of its own.

    Everything is two kinds: an index of all images would tempt PostgreSQL to look through it for the public ones.
    """
    if viewer.is_admin and not query.default_scope:
        return ("public", "private") if query.is_public is None else ("public",) if query.is_public else ("private",)
    return ("public", "own", "shared") if viewer.project else ("public",)


_REASONS: Mapping[str, Sequence[ColumnElement[bool]]] = {
    "public": (IMAGES.c.is_public == true(),),
    "private": (IMAGES.c.is_public == false(),),
    "own": (IMAGES.c.owner == bindparam("project"),),
    "shared": (),  # a join
}

# How the names of each scope's indexes begin; what a list is sorted by follows.
_INDEXES = {
    "public": "ix_images_is_public_deleted",
    "private": "ix_images_is_public_deleted",
    "own": "ix_images_owner_deleted",
}

_FILTERS: Mapping[str, ColumnElement[bool]] = {
    "name": IMAGES.c.name == bindparam("name"),
    "status": IMAGES.c.status == bindparam("status"),
    "container_format": IMAGES.c.container_format == bindparam("container_format"),
    "disk_format": IMAGES.c.disk_format == bindparam("disk_format"),
    "min_ram": IMAGES.c.min_ram == bindparam("min_ram"),
    "min_disk": IMAGES.c.min_disk == bindparam("min_disk"),
    "size_min": IMAGES.c.size >= bindparam("size_min"),
    "size_max": IMAGES.c.size <= bindparam("size_max"),
    "protected": IMAGES.c.protected == bindparam("protected"),
    "changes_since": IMAGES.c.updated_at > bindparam("changes_since"),
}


def _shown(query: ListQuery) -> bool | None:
    """Say whether the list is of deleted images, True, of others, False, or of both, None."""
    if query.deleted is None and query.changes_since is None:
        return False
    return query.deleted


@lru_cache
def _page(
    scopes: Sequence[str],
    filters: Sequence[str],
    deleted: bool | None,
    properties: int,
    order: Order,
    after_marker: bool,
    dialect: str,
    detailed: bool,
) -> PageSelect:
    """Make the SELECT of a page: of one scope, or of the first images of each, which are one page together."""
    conditions = [_FILTERS[name] for name in filters]
    if properties:
        conditions.append(_has_properties(properties))
    if after_marker:
        conditions.append(_after_marker(order, dialect))
    if detailed:
        shown: Statement = select(*COLUMNS).select_from(IMAGES).outerjoin(LOCATIONS, WITH_LOCATION)
    else:
        merged_by = order.names if len(scopes) > 1 else ()
        shown = select(*(IMAGES.c[name] for name in dict.fromkeys((*SUMMARY_FIELDS, *merged_by))))
    parts = []
    for scope in scopes:
        part = _scope(shown, scope, filters, deleted, order).where(*conditions).limit(bindparam("limit"))
        columns = [IMAGES.c[name] for name in order.names]
        parts.append(part.order_by(*(column.desc() if order.descending else column for column in columns)))
    if len(parts) == 1:
        return parts[0]
    return union_all(*(select(part.subquery()) for part in parts))


def _scope(shown: Statement, scope: str, filters: Sequence[str], deleted: bool | None, order: Order) -> Statement:
    statement = shown.where(*_REASONS[scope])
    if scope == "shared":
        shared = and_(MEMBERS.c.image_id == IMAGES.c.id, MEMBERS.c.member == bindparam("project"))
        statement = statement.join(MEMBERS, shared)
    if deleted is None:
        return statement
    if deleted:
        return statement.where(IMAGES.c.deleted == true())
    statement = statement.where(IMAGES.c.status != constant(Status.KILLED), IMAGES.c.deleted == false())
    if scope in _INDEXES and ("name" in filters or order.sort_key in ("name", "created_at")):
        column = "_name" if "name" in filters or order.sort_key == "name" else ""
        # MariaDB has to be told: behind a marker it would rather read all that is newer as well.
        hint = f"FORCE INDEX ({_INDEXES[scope]}{column}_created_at_id)"
        for dialect in ("mysql", "mariadb"):
            statement = statement.with_hint(IMAGES, hint, dialect)
    return statement


def _has_properties(count: int) -> ColumnElement[bool]:
    wanted = or_(
        *(
            and_(PROPERTIES.c.key == bindparam(f"key_{number}"), PROPERTIES.c.value == bindparam(f"value_{number}"))
            for number in range(count)
        )
    )
    mine = and_(PROPERTIES.c.image_id == IMAGES.c.id, wanted)
    if count == 1:  # the common case: PostgreSQL may begin with the few properties that are so
        return select(PROPERTIES.c.image_id).where(mine).exists()
    # Counted in one subquery: it would take a second and more to plan the joins of twenty.
    return select(func.count()).select_from(PROPERTIES).where(mine).scalar_subquery() == count


def _after_marker(order: Order, dialect: str) -> ColumnElement[bool]:
    columns: list[Any] = [IMAGES.c[name] for name in order.names]
    values: list[Any] = [bindparam(f"marker_{column.key}", type_=column.type) for column in columns]
    if dialect in ("sqlite", "postgresql"):
        if dialect == "postgresql":
            # It guesses from the first value how many rows follow: few, where most images have the marker's name and
            # few a later one, and would sort them all. From what a subquery gives it cannot guess.
            values[0] = select(values[0]).scalar_subquery()
        return tuple_(*columns) < tuple_(*values) if order.descending else tuple_(*columns) > tuple_(*values)
    # MariaDB reads all rows for a row value, and ranges of its index for the same spelled out.
    pairs = list(zip(columns, values, strict=True))
    return or_(
        *(
            and_(
                *(earlier == known for earlier, known in pairs[:number]),
                column < value if order.descending else column > value,
            )
            for number, (column, value) in enumerate(pairs)
        )
    )
