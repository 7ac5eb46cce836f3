"""What an image must still be, as the asking server found it, for a change or a deletion to be made. Source: ours."""

from typing import Any

import colander
from pyramid.request import Request

from ...catalogue.records import IMAGE_FIELDS, Image, SetBy
from ...catalogue.rules import cleared
from ...errors import Conflict, Invalid, PreconditionFailed
from ...web.fields import Flag, Text, type_of
from .record import StrictObject, Value, optional

_COMPARED = {name: type_of(name) for name, field in IMAGE_FIELDS.items() if field.set_by in (SetBy.CLIENT, SetBy.ADMIN)}
EXPECTED = colander.SchemaNode(
    StrictObject(), *(optional(Value(type_), name) for name, type_ in _COMPARED.items()), name="expected", missing={}
)
_QUERY = colander.SchemaNode(
    colander.Mapping(),
    optional(Text(), "from_state"),
    optional(Flag(), "protected"),
    optional(type_of("owner"), "owner"),
)


def check_found(image: Image, from_state: str | None, expected: dict[str, Any]) -> None:
    """Refuse to change an image that is no longer what the asking server found. Raises Conflict."""
    if from_state not in (None, image.status):
        raise Conflict(f"Image {image.id} is {image.status}, and not {from_state}.")
    _compare(image, expected, "body.expected.")


def check_removable(request: Request, image: Image) -> bool:
    """Read ``DELETE /images/<id>?from_state=active&protected=false&owner=tenant-a``, of which nothing is required.

    Returns whether the image must keep its status until it is removed. A deleted image has nothing left to compare.

    Raises Invalid, Conflict for another protection or owner, and PreconditionFailed for another status.
    """
    try:
        fields: dict[str, Any] = _QUERY.deserialize(dict(request.GET))
    except UnicodeDecodeError as error:
        raise Invalid("The query string is not UTF-8.") from error
    except colander.Invalid as invalid:
        raise Invalid(*(f"{name}: {why}." for name, why in invalid.asdict().items())) from invalid
    from_state = fields.pop("from_state", None)
    if not image.deleted:
        _compare(image, fields, "")
        if from_state not in (None, image.status):
            raise PreconditionFailed(f"Image {image.id} is {image.status}, and not {from_state}.")
    return from_state is not None


def _compare(image: Image, expected: dict[str, Any], prefix: str) -> None:
    for name, value in cleared(expected).items():
        if value != getattr(image, name):
            raise Conflict(f"{prefix}{name}: that of image {image.id} is another by now.")
