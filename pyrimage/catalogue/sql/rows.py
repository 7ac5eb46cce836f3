"""Images as plain rows, read by position: entities would cost three times as much (see ``benchmarks/``).

SELECTs run on the connection, in a session's transaction too: the session's own execute costs as much again.
"""

from collections.abc import Mapping
from operator import attrgetter
from typing import Any

from sqlalchemy import (
    ColumnElement,
    CompoundSelect,
    Row,
    Select,
    and_,
    bindparam,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.orm import Session

from ...models import ImageRow, LocationRow, MemberRow, PropertyRow
from ...models.image import is_text
from ...models.location import ACTIVE
from ..records import IMAGE_FIELDS, SUMMARY_FIELDS, Image, ImageSummary, Location

# What SELECTs are made of. SQLAlchemy finds a statement's SQL by hashing all its parts, each time; there are twice as
# many in the attributes of the mapped classes.
IMAGES, PROPERTIES = ImageRow.__table__, PropertyRow.__table__
LOCATIONS, MEMBERS = LocationRow.__table__, MemberRow.__table__

Statement = Select[*tuple[Any, ...]]
PageSelect = Statement | CompoundSelect[*tuple[Any, ...]]
Found = Row[*tuple[Any, ...]]

_NAMES = tuple(IMAGE_FIELDS)
_TEXTS = tuple(name for name, field in IMAGE_FIELDS.items() if is_text(field) and field.unset is None)
_TEXTS_OF_SUMMARY = tuple(name for name in _TEXTS if name in SUMMARY_FIELDS)
_VALUES = attrgetter(*_NAMES)
COLUMNS = (*(IMAGES.c[name] for name in _NAMES), LOCATIONS.c.store, LOCATIONS.c.key, LOCATIONS.c.owned)


def constant(word: str) -> ColumnElement[str]:
    """Spell out one of our words: in a prepared statement, PostgreSQL misjudges how many rows a parameter finds."""
    return literal_column(f"'{word}'")


WITH_LOCATION = and_(LOCATIONS.c.image_id == IMAGES.c.id, LOCATIONS.c.state == constant(ACTIVE))


def write(session: Session, statement: Any) -> int:
    """Run an ORM statement, which marks the session changed; return the number of rows it found."""
    result: Any = session.execute(statement, execution_options={"synchronize_session": False})
    count: int = result.rowcount
    return count


def columns(image: Image) -> dict[str, Any]:
    """Return the columns of a record's row."""
    values = dict(zip(_NAMES, _VALUES(image), strict=True))
    for name in _TEXTS:
        values[name] = values[name] or ""
    return values


def record(row: Found, properties: Mapping[str, str]) -> Image:
    """Return the record of a row that begins with ``COLUMNS``."""
    values: dict[str, Any] = dict(zip(_NAMES, row, strict=False))
    for name in _TEXTS:
        values[name] = values[name] or None
    store, key, owned = row[len(_NAMES) : len(COLUMNS)]
    return Image(**values, properties=properties, location=Location(store, key, owned) if store else None)


def summary(row: Found) -> ImageSummary:
    """Return the summary of a row that begins with ``SUMMARY_FIELDS``."""
    values: dict[str, Any] = dict(zip(SUMMARY_FIELDS, row, strict=False))
    for name in _TEXTS_OF_SUMMARY:
        values[name] = values[name] or None
    return ImageSummary(**values)


def visible(has_project: bool) -> ColumnElement[bool]:
    """Select what is public, own or shared; the project is a parameter."""
    if not has_project:
        return IMAGES.c.is_public == true()
    shared = select(MEMBERS.c.image_id).where(
        MEMBERS.c.image_id == IMAGES.c.id, MEMBERS.c.member == bindparam("project")
    )
    return or_(IMAGES.c.is_public == true(), IMAGES.c.owner == bindparam("project"), shared.exists())
