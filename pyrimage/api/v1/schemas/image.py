"""The request headers of an image: their schema, and the draft that a valid set of them makes.

Source: docs/v1.md, "Fields as request headers", "Formats" and "PUT /images/{id}".
"""

from typing import Any

import colander
from pyramid.request import Request

from ....catalogue.records import (
    DIGESTS,
    EMPTY,
    IMAGE_FIELDS,
    LOCATION_LENGTH,
    MAX_BYTES,
    Image,
    Location,
    Shown,
    Status,
)
from ....catalogue.rules import (
    Body,
    ImageDraft,
    Registered,
    Spelling,
    changed_image,
    check_limits,
    cleared,
    format_problems,
    immutability_problems,
    new_image,
    permitted,
)
from ....errors import Invalid
from ....stores import Store
from ....web.bodies import content_length, has_body
from ....web.digests import demand_digests
from ....web.fields import HeaderType, Ignored, ImageId, Text, read_purge, type_of
from .dialect import Dialect, shown_location
from .headers import Headers, header_name, read_headers

OCTETS = "application/octet-stream"

# Headers that are no field of the record, or not to be read as one.
_OTHERS: dict[str, HeaderType] = {
    "id": ImageId(),
    "status": Text(),
    "store": Text(),
    "location": Text(LOCATION_LENGTH),
    **dict.fromkeys(("copy_from", "uri", "virtual_size"), Ignored()),
}


def _schema() -> colander.SchemaNode:
    """Make the schema of names without their prefix, in underscores, from the description of the fields.

    In:  {"name": "f17", "size": "1048576", "is_public": "True"}   every value is text
    Out: {"name": "f17", "size": 1048576, "is_public": True}       size in bytes; absent ones stay absent
    """
    shown = [name for name, field in IMAGE_FIELDS.items() if field.shown is not Shown.REGISTRY]
    types = {**{name: type_of(name) for name in shown}, **_OTHERS}
    nodes = [colander.SchemaNode(type_, name=name, missing=colander.drop) for name, type_ in types.items()]
    return colander.SchemaNode(colander.Mapping(), *nodes)


_SCHEMA = _schema()
KNOWN = frozenset(node.name for node in _SCHEMA.children)


def read_new_image(request: Request, dialect: Dialect) -> ImageDraft:
    """Read ``POST /images``. Raises Invalid with everything that is wrong with the headers, or LimitExceeded."""
    headers = read_headers(request)
    fields = _validated(headers, request)
    problems, body = headers.problems, has_body(request)
    if headers.fields.get("size") == "":
        del fields["size"]  # announces nothing, where 0 announces an empty image
    location = _location(fields, request, problems)
    is_empty = not body and location is None and fields.get("size") == 0
    size = _expected_size(fields.get("size"), request, location, problems)
    spell = demand_digests(request, fields, problems, header_name, has_data=body)
    if dialect.name_required and not headers.fields.get("name"):
        problems.append("x-image-meta-name is required.")
    if is_empty and any(fields.get(name) not in (None, getattr(EMPTY, name)) for name in DIGESTS):
        problems.append("x-image-meta-checksum or -sha256 is not the digest of an empty image.")
    problems += format_problems(
        fields, request.settings, header_name, complete=body or is_empty or location is not None
    )
    _check_content_type(request, dialect, problems, has_data=body)
    if problems:
        raise Invalid(*problems)
    fields = permitted(fields, request.identity)
    image = new_image(fields, headers.properties, request.identity)
    check_limits(request.settings, image, None, size)
    data = EMPTY if is_empty else _data(fields, request, location, size, spell)
    return ImageDraft(image=image, data=data, updated_at=fields.get("updated_at"))


def read_changed_image(request: Request, dialect: Dialect, image: Image) -> ImageDraft:
    """Read ``PUT /images/<id>``: fields not sent stay as they are.

    Clients send back whole images: what only the server sets is ignored, what may never change must be as it is.
    Raises Invalid, LimitExceeded, or Forbidden for another id or status.
    """
    headers = read_headers(request)
    if image.status != Status.QUEUED:
        _check_location(headers, shown_location(request, image))
    fields = _validated(headers, request)
    problems, body = headers.problems, has_body(request)
    location = _location(fields, request, problems)
    size = _expected_size(fields.get("size") or image.size or None, request, location, problems)
    spell = demand_digests(request, fields, problems, header_name, has_data=body, image=image)
    problems += immutability_problems(fields, image, header_name)
    problems += format_problems(
        fields, request.settings, header_name, complete=body or location is not None, image=image
    )
    _check_content_type(request, dialect, problems, has_data=body)
    purge = read_purge(request, problems, default=True) and not body
    if problems:
        raise Invalid(*problems)
    fields = permitted(fields, request.identity)
    changed = changed_image(image, fields, headers.properties, header_name, purge=purge)
    check_limits(request.settings, changed, image, size)
    data = _data(fields, request, location, size, spell)
    return ImageDraft(image=changed, old=image, data=data, purge=purge)


def _data(
    fields: dict[str, Any], request: Request, location: Location | None, size: int | None, spell: Spelling
) -> Body | Registered | None:
    if location is not None:
        return Registered(location, size)
    return Body(fields.get("store") or request.settings.default_store, size, spell) if has_body(request) else None


def _validated(headers: Headers, request: Request) -> dict[str, Any]:
    """Run the schema; what it finds, and names it does not know, is added to the headers' problems.

    Colander's own ``unknown="raise"`` would report the unknown names and hide every other error.
    """
    unknown = [name for name in headers.fields if name not in KNOWN]
    headers.problems += [f"{header_name(name)!a} is not a known header." for name in unknown]
    try:
        fields: dict[str, Any] = _SCHEMA.deserialize(headers.fields)
    except colander.Invalid as invalid:
        wrong = invalid.asdict()
        headers.problems += [f"{header_name(name)}: {why}." for name, why in wrong.items()]
        fields = _SCHEMA.deserialize({name: text for name, text in headers.fields.items() if name not in wrong})
    if (store := fields.get("store")) is not None:
        fields["store"] = request.settings.find_store(store)
        if fields["store"] is None:
            known = ", ".join(request.stores)
            headers.problems.append(f"x-image-meta-store: {store!a} is not a store here; try {known}.")
    return cleared(fields)


def _location(fields: dict[str, Any], request: Request, problems: list[str]) -> Location | None:
    """Return where the data lies already, if the client says so; and judge the store that it names."""
    store, body = fields.get("store"), has_body(request)
    if body and store is not None and not isinstance(request.stores[store], Store):
        problems.append(f"x-image-meta-store: the store {store} takes no uploads.")
    if "location" not in fields:
        return None
    if body:
        problems.append("x-image-meta-location: data comes with the body already; send one of them.")
    try:
        location = request.stores.locate(fields["location"] or "")
    except Invalid as error:
        problems.append(f"x-image-meta-location: {error}")
        return None
    if store not in (None, location.store):
        problems.append(f"x-image-meta-store: the location is one of the store {location.store}.")
    return location


def _expected_size(
    declared: int | None, request: Request, location: Location | None, problems: list[str]
) -> int | None:
    """Return how many bytes the data must have, None if nobody said; 0 of a location is what clients echo."""
    if location is not None:
        return declared or None
    if not has_body(request):
        return None
    length = content_length(request)
    if length is not None and length > MAX_BYTES:
        problems.append(f"Content-Length is more than {MAX_BYTES}.")
    if declared is not None and length is not None and declared != length:
        problems.append(f"x-image-meta-size: {declared} bytes are announced, but Content-Length is {length}.")
    return length if declared is None else declared


def _check_location(headers: Headers, shown: str | None) -> None:
    """Take an echo of what was shown out of the headers: it is no source. "None" is Python's null."""
    sent = headers.fields.pop("location", None)
    if sent is not None and sent not in (("", "None") if shown is None else (shown,)):
        headers.problems.append("x-image-meta-location cannot be changed; only a queued image takes data.")


def _check_content_type(request: Request, dialect: Dialect, problems: list[str], *, has_data: bool) -> None:
    if not has_data:
        return
    sent = request.environ.get("CONTENT_TYPE", "")
    kind = sent.partition(";")[0].strip().lower()  # parameters mean nothing to bytes (RFC 9110, 8.3.1)
    if kind != OCTETS and (sent or dialect.content_type_required):
        problems.append(f"Content-Type: {sent!a} is not accepted with data; send {OCTETS}.")
