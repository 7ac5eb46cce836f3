"""The JSON of an image's bytes: those of an upload elsewhere, or what lies where a client has registered it.

Neither is anybody's word for where an image of ours lies: an upload's bytes are where its claim says, and a registered
location is judged as at the API. Source: ours.
"""

import dataclasses
from typing import Any

import colander
from pyramid.request import Request

from ...catalogue.records import EMPTY, LOCATION_LENGTH, Blob, Location
from ...errors import Invalid
from ...web.bodies import Object
from ...web.fields import Digits, Flag, Hex, Text
from ..callers import check_uploader
from .record import Nullable, Required, Value, location_node, location_problems

_DIGESTS = {"checksum": 32, "sha256": 64}
_LOCATION = location_node(Nullable(), "location")
_LOCATION.add(colander.SchemaNode(Required(Flag()), name="owned", missing=True))
BLOB = colander.SchemaNode(
    Object(),
    colander.SchemaNode(Required(Digits()), name="size"),
    *(colander.SchemaNode(Value(Hex(digits)), name=name) for name, digits in _DIGESTS.items()),
    _LOCATION,
    colander.SchemaNode(Value(Text(LOCATION_LENGTH)), name="claim"),
    name="blob",
    missing=None,
)


def make_blob(request: Request, found: dict[str, Any] | None, *, is_new: bool) -> tuple[Blob | None, list[str]]:
    """Make the blob that ``BLOB`` has read, and say what is wrong with it. is_new: with it comes a new image."""
    if found is None:
        return None, []
    location = Location(**found["location"]) if found["location"] else None
    blob = Blob(found["size"], found["checksum"], found["sha256"], location, found["claim"])
    if location is not None and not location.owned:
        return blob, _problems_of_registered(request, blob, location)
    check_uploader(request)
    problems = [f"body.blob.{name}: must be a text." for name in _DIGESTS if found[name] is None]
    if location is None and dataclasses.replace(blob, claim=None) != EMPTY:
        problems.append("body.blob.location: only a blob of no bytes, with their digests, has none.")
    if location is not None and location.key != blob.claim:
        problems.append("body.blob.location.key: must be the key of the upload's claim, body.blob.claim.")
    if location is not None:
        problems += location_problems(request, location.store, location.key, "body.blob.location")
    if blob.claim is None and not is_new:
        problems.append("body.blob.claim: is missing; data for an image that is there needs its claim.")
    return blob, problems


def _problems_of_registered(request: Request, blob: Blob, location: Location) -> list[str]:
    problems = []
    if blob.claim is not None:
        problems.append("body.blob.claim: bytes that were uploaded are owned; a registered location has no claim.")
    if not blob.size:
        problems.append("body.blob.size: an image of no bytes has no location.")
    try:
        request.stores.check_registered(location)
    except Invalid as error:
        problems.append(f"body.blob.location: {error}")
    return problems
