"""Images as plain rows, read by position: entities would cost three times as much (see ``benchmarks/``)."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, CompoundSelect, Row, Select, and_, bindparam, literal_column, or_, select, true
from sqlalchemy.orm import Session

from ..models import ImageRow, LocationRow, MemberRow
from ..models.location import ACTIVE
from ..records import Image, Location

Statement = Select[*tuple[Any, ...]]
PageSelect = Statement | CompoundSelect[*tuple[Any, ...]]
Found = Row[*tuple[Any, ...]]

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
    ImageRow.activated_at,
    ImageRow.last_error,
)
COLUMNS = (*_IMAGE, LocationRow.store, LocationRow.key, LocationRow.owned)
_NEVER_NULL = ("name", "disk_format", "container_format", "owner")  # '' in a row is None in a record
_STORED = [column.key for column in _IMAGE]


def constant(word: str) -> ColumnElement[str]:
    """Spell out one of our words: in a prepared statement, PostgreSQL misjudges how many rows a parameter finds."""
    return literal_column(f"'{word}'")


WITH_LOCATION = and_(LocationRow.image_id == ImageRow.id, LocationRow.state == constant(ACTIVE))


def read(session: Session, statement: PageSelect, **values: Any) -> Sequence[Found]:
    """Run a SELECT in the session's transaction.

    On the connection: the session's own execute() costs as much again, and reads need none of its events.
    """
    return session.connection().execute(statement, values).all()


def write(session: Session, statement: Any) -> int:
    """Run an ORM statement, which marks the session changed; return the number of rows it found."""
    result: Any = session.execute(statement, execution_options={"synchronize_session": False})
    count: int = result.rowcount
    return count


def columns(image: Image) -> dict[str, Any]:
    """Return the columns of a record's row."""
    values = {name: getattr(image, name) for name in _STORED}
    return values | {name: values[name] or "" for name in _NEVER_NULL}


def record(row: Found, properties: Mapping[str, str]) -> Image:
    """Return the record of a row that begins with ``COLUMNS``."""
    values: dict[str, Any] = dict(zip(_STORED, row, strict=False))
    for name in _NEVER_NULL:
        values[name] = values[name] or None
    store, key, owned = row[len(_IMAGE) : len(COLUMNS)]
    return Image(**values, properties=properties, location=Location(store, key, owned) if store else None)


def visible(has_project: bool) -> ColumnElement[bool]:
    """Select what is public, own or shared; the project is a parameter."""
    if not has_project:
        return ImageRow.is_public == true()
    shared = select(MemberRow.image_id).where(
        MemberRow.image_id == ImageRow.id, MemberRow.member == bindparam("project")
    )
    return or_(ImageRow.is_public == true(), ImageRow.owner == bindparam("project"), shared.exists())
