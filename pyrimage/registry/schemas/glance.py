"""What Glance's own API servers send, which cannot sign: an image's status, and where they have put its bytes.

Only administrators' word counts for that, and only where they ask by themselves: no signature names them. What they say
of bytes is recorded as registered, and nobody here ever removes it, unless it is the place that an upload has claimed.
Source: docs/v1.md, "Registry API".
"""

import re
from collections.abc import Mapping
from typing import Any

import colander
from pyramid.request import Request

from ...catalogue.records import FACTS, LOCATION_LENGTH, Blob, Image, Location, Status, utcnow
from ...catalogue.rules import Fields
from ...errors import Conflict, Invalid
from ...stores import FOREIGN
from ...web.bodies import JsonType
from ...web.fields import Flag, Text, Timestamp
from ..callers import is_signed
from .record import Value, image_node, spell

WORDS = frozenset({Status.QUEUED, Status.SAVING, Status.ACTIVE, Status.KILLED, Status.PENDING_DELETE, Status.DELETED})
OPEN = frozenset({Status.QUEUED, Status.SAVING})  # to bytes
GONE = frozenset({Status.PENDING_DELETE, Status.DELETED})
# Nothing leads back to where an image takes bytes. Who gives up a deletion says what the image was before.
WAYS: Mapping[str, frozenset[str]] = {
    Status.QUEUED: GONE | {Status.SAVING, Status.KILLED},
    Status.SAVING: GONE | {Status.KILLED},
    Status.ACTIVE: GONE,
    Status.KILLED: GONE,
    Status.PENDING_DELETE: GONE | {Status.ACTIVE, Status.KILLED},
    Status.DELETED: GONE | {Status.ACTIVE, Status.KILLED},
}

# A host and perhaps its port, and no user, nor a secret that holds a slash.
_NO_CREDENTIALS = re.compile(r"[^:/?#]*://(\[[^]@/]*\]|[^@:/?#]*)(:[0-9]*)?([/?#].*)?", re.DOTALL)

_URL = Value(Text(LOCATION_LENGTH))


class Urls(JsonType):
    """``location_data``: the URLs of those that are not deleted. What else they are told of has no place here."""

    kind, name = list, 'a list of objects such as {"url": "swift+https://...", "metadata": {}, "status": "active"}'

    def read(self, node: colander.SchemaNode, value: list[Any]) -> list[str]:
        """Return the URLs."""
        if not all(isinstance(each, dict) and each.get("url") for each in value):
            raise colander.Invalid(node, f"must be {self.name}")
        return [_URL.deserialize(node, each["url"]) for each in value if each.get("status") not in GONE]


_SENT = {"location": _URL, "location_data": Urls()}
NEW_IMAGE = image_node(**_SENT, deleted=Value(Flag()), deleted_at=Value(Timestamp()))
CHANGED_IMAGE = image_node(**_SENT)


def is_asking(request: Request) -> bool:
    """Say whether an administrator asks by itself, as Glance does, and not another server of ours for one."""
    return request.identity.is_admin and not is_signed(request)


def read_new(request: Request, fields: Fields, problems: list[str]) -> tuple[Fields, Blob | None]:
    """Take what ``POST /images`` says of the state of a new image out of its fields; active unless it says else.

    Returns what the record has of it, and the blob of an active one. The location of others is answered back and not
    recorded: it comes again with their bytes.
    """
    deleted, deleted_at = fields.pop("deleted", None), fields.pop("deleted_at", None)
    location = _read_location(request, fields, problems)
    status = fields.pop("status", None) or (Status.DELETED if deleted else Status.ACTIVE)
    if status not in WORDS:
        problems.append(_unknown(status))
    if deleted and status != Status.DELETED:
        problems.append(f"{spell('deleted')}: the status of a deleted image is deleted.")
    if status == Status.DELETED:
        return {"status": status, "deleted": True, "deleted_at": deleted_at or utcnow()}, None
    blob = _blob_at(location, fields, problems) if status == Status.ACTIVE else None
    return {"status": status, "location": location}, blob


def read_change(request: Request, fields: Fields, image: Image, problems: list[str]) -> tuple[Fields, Blob | None]:
    """Take what ``PUT /images/<id>`` says of the state of an image out of its fields; as ``read_new`` does.

    Where an image has its bytes already, a location that is sent back changes nothing. Raises Conflict for a status to
    which no way leads from the image's.
    """
    location = _read_location(request, fields, problems)
    status, is_open = fields.pop("status", None) or image.status, image.status in OPEN
    if is_open and status == Status.ACTIVE:
        facts = {name: fields.get(name, getattr(image, name)) for name in FACTS}
        return {"status": status}, _blob_at(location, facts, problems)
    if status not in WORDS:
        problems.append(_unknown(status))
    elif status != image.status and not _is_way(image, status):
        raise Conflict(f"Image {image.id} is {image.status}, and cannot become {status}.")
    return {"status": status, "location": location if is_open else image.location}, None


def _unknown(status: str) -> str:
    return f"{spell('status')}: {status!a} is no status; use {', '.join(sorted(WORDS))}."


def _is_way(image: Image, status: str) -> bool:
    """Say whether an image may get this status without new bytes. One that is active has its bytes, or needs none."""
    has_bytes = image.location is not None or not image.size
    return status in WAYS[image.status] and (status != Status.ACTIVE or has_bytes)


def _read_location(request: Request, fields: Fields, problems: list[str]) -> Location | None:
    """Take where the bytes lie out of the fields.

    That is a place of a blob of ours, a location that a client could register here, or one that no store here reads.
    """
    sent = [fields.pop("location", None), *fields.pop("location_data", ())]
    urls = dict.fromkeys(filter(None, sent))
    if len(urls) > 1:
        problems.append(f"{spell('location_data')}: an image has one location here.")
    url = next(iter(urls), None)
    if url is None:
        return None
    if "://" in url and not _NO_CREDENTIALS.fullmatch(url):
        problems.append(f"{spell('location')}: must not hold a user or a password.")
    try:
        location: Location = request.stores.own(url) or request.stores.locate(url)
    except Invalid:
        return Location(FOREIGN, url, owned=False)
    return location


def _blob_at(location: Location | None, facts: Mapping[str, Any], problems: list[str]) -> Blob:
    """Make the blob of an image that is active from now on. facts: its size and digests, where somebody told them."""
    size = facts.get("size") or 0
    if size and location is None:
        problems.append(f"{spell('status')}: an image of {size} bytes is active with the {spell('location')} of them.")
    claim = location.key if location is not None and location.owned else None
    return Blob(size, facts.get("checksum"), facts.get("sha256"), location, claim)
