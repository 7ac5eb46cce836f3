"""The JSON of an image, as the registry takes it: the fields and the rules are those of the headers.

JSON is read as JSON: a number is 5 and not "5", a flag true and not "true", and null clears a field. Source:
docs/v1.md, "Registry API"; ours for ``blob``.
"""

import dataclasses
import re
from datetime import datetime, timedelta
from typing import Any

import colander
from pyramid.request import Request

from ...catalogue.records import EMPTY, FACTS, IMAGE_FIELDS, LOCATION_LENGTH, Blob, Image, Location, Status, utcnow
from ...catalogue.rules import (
    Fields,
    ImageDraft,
    changed_image,
    check_changeable,
    check_limits,
    cleared,
    format_problems,
    immutability_problems,
    new_image,
    permitted,
)
from ...errors import Conflict, DataMismatch, Forbidden, Invalid
from ...settings import STORE_NAME_LENGTH
from ...signatures import MAX_CLOCK_SECONDS
from ...stores import Store
from ...web.bodies import JsonType, Object, read_json
from ...web.fields import (
    CONTROL,
    KEY_LENGTH,
    NOT_KEY,
    Digits,
    Flag,
    HeaderType,
    Hex,
    Ignored,
    ImageId,
    Text,
    Timestamp,
    read_purge,
    type_of,
)

MANY = 10  # unknown fields that are told; there could be a hundred thousand
CLOCKS = timedelta(seconds=MAX_CLOCK_SECONDS)

_JSON_OF: dict[type[HeaderType], tuple[type, str]] = {Digits: (int, "a whole number"), Flag: (bool, "true, false")}
_NOT_TEXT = re.compile(f"{CONTROL.pattern}|[\ud800-\udfff]")  # JSON can spell halves of characters, UTF-8 cannot


class Value(colander.SchemaType):
    """A JSON value that is judged as a header's text is, once it is of the JSON type that ``kind`` stands for.

    null and the empty text are None, as an empty header is.
    """

    def __init__(self, kind: HeaderType) -> None:
        self.kind = kind
        self.json, self.name = _JSON_OF.get(type(kind), (str, "a text"))

    def deserialize(self, node: colander.SchemaNode, cstruct: Any) -> Any:
        """Return what the kind makes of the value."""
        if cstruct is colander.null:
            return cstruct
        if cstruct is None or (cstruct == "" and self.json is str):
            return None
        if type(cstruct) is not self.json:  # True is an int too
            raise colander.Invalid(node, f"must be {self.name} or null")
        if isinstance(cstruct, bool):
            return cstruct
        if _NOT_TEXT.search(str(cstruct)):
            raise colander.Invalid(node, "holds a control character, or half a one")
        return self.kind.deserialize(node, str(cstruct))


class Required(Value):
    """A value that has to be there."""

    def deserialize(self, node: colander.SchemaNode, cstruct: Any) -> Any:
        """Return what the kind makes of the value."""
        value = super().deserialize(node, cstruct)
        if value is None:
            raise colander.Invalid(node, f"must be {self.name}")
        return value


class Properties(JsonType, colander.Positional):
    """An object of texts by their keys. Ends at the first fault: there could be a hundred thousand."""

    kind, name = dict, 'an object of texts, such as {"os_type": "linux"}'

    def read(self, node: colander.SchemaNode, value: dict[str, Any]) -> dict[str, str]:
        """Return the properties."""
        for key, text in value.items():
            if not 1 <= len(key) <= KEY_LENGTH or NOT_KEY.search(key):
                raise colander.Invalid(node, f"{key[:KEY_LENGTH]!a}: a key is 1 to {KEY_LENGTH} of a-z, 0-9 and _")
            if not isinstance(text, str):
                raise colander.Invalid(node, f"{key}: must be a text")
            if _NOT_TEXT.search(text):
                raise colander.Invalid(node, f"{key}: holds a control character, or half a one")
        return value


class StrictObject(Object):
    """A JSON object all of whose keys must be known. Colander's own way would hide every other error."""

    def read(self, node: colander.SchemaNode, value: dict[str, Any]) -> Any:
        """Return what the node's children make of it; what is unknown is told with the rest."""
        error = colander.Invalid(node)
        for name in sorted(value.keys() - {child.name for child in node.children})[:MANY]:
            error.add(colander.Invalid(_node(Ignored(), ascii(name[:KEY_LENGTH])), "is not a known field"))
        try:
            found = super().read(node, value)
        except colander.Invalid as invalid:
            for child in invalid.children:
                error.add(child)
        if error.children:
            raise error
        return found


def _node(kind: colander.SchemaType, name: str, **more: Any) -> colander.SchemaNode:
    return colander.SchemaNode(kind, name=name, **more)


def _optional(kind: colander.SchemaType, name: str) -> colander.SchemaNode:
    return _node(kind, name, missing=colander.drop)


def _fields() -> list[colander.SchemaNode]:
    """Return a node for each field of the record, and for what clients send back."""
    read = {"id": ImageId(), "status": Text(), "activated_at": Timestamp()}
    types = {name: read.get(name) or type_of(name) for name in IMAGE_FIELDS}
    values = {name: type_ if isinstance(type_, Ignored) else Value(type_) for name, type_ in types.items()}
    sent_back = ("copy_from", "uri", "virtual_size", "location", "location_data")
    others = {**dict.fromkeys(sent_back, Ignored()), "properties": Properties()}
    return [_optional(kind, name) for name, kind in {**values, **others}.items()]


class Nullable(Object):
    """A JSON object, or null."""

    name = "a JSON object or null"

    def deserialize(self, node: colander.SchemaNode, cstruct: Any) -> Any:
        """Return what the node's children make of it, None for null."""
        return None if cstruct is None else super().deserialize(node, cstruct)


def location_node(kind: colander.SchemaType, name: str) -> colander.SchemaNode:
    """Make the node of ``{"store": "file", "key": "<image id>.<random>"}``."""
    node = colander.SchemaNode(
        kind,
        _node(Required(Text(STORE_NAME_LENGTH)), "store"),
        _node(Required(Text(LOCATION_LENGTH)), "key"),
        name=name,
    )
    node.missing_msg = "is missing"
    return node


def location_problems(request: Request, store: str, key: str, where: str) -> list[str]:
    """Say why bytes cannot lie there, if they cannot; the store judges its keys. where: what the client calls it."""
    place = request.stores.get(store)
    if not isinstance(place, Store):
        return [f"{where}.store: {store!a} is not a store here that takes uploads."]
    if not place.is_key(key):
        return [f"{where}.key: {key!a} is not a key of the store {store}."]
    return []


_BLOB = colander.SchemaNode(
    Object(),
    _node(Required(Digits()), "size"),
    *(_node(Required(Hex(digits)), name) for name, digits in (("checksum", 32), ("sha256", 64))),
    location_node(Nullable(), "location"),
    _node(Value(Text(LOCATION_LENGTH)), "claim"),
    name="blob",
    missing=None,
)
_BODY = colander.SchemaNode(
    Object(),
    colander.SchemaNode(StrictObject(), *_fields(), name="image", missing_msg="is missing; it must be a JSON object"),
    _node(Value(Text()), "from_state", missing=None),
    _BLOB,
    name="body",
)


def spell(field: str) -> str:
    """Spell a field as its path in the JSON: ``body.image.disk_format``."""
    return f"body.image.{field}"


def read_new_record(request: Request) -> ImageDraft:
    """Read ``POST /images``: ``{"image": {"name": "f17"}}``, with ``"blob"`` where the bytes are there.

    Raises Invalid with everything that is wrong, LimitExceeded.
    """
    body = read_json(request, _BODY, absent={})
    fields: Fields = body["image"]
    properties = fields.pop("properties", {})
    blob, problems = _blob(request, body["blob"])
    status = _new_status(fields, blob, request, problems)
    times = _new_times(fields, blob, request)
    problems += format_problems(fields, request.settings, spell, complete=blob is not None)
    if problems:
        raise Invalid(*problems)
    fields = permitted(cleared(fields), request.identity)
    image = dataclasses.replace(new_image(fields, properties, request.identity), status=status, **times)
    _check_announced(image, blob)
    check_limits(request.settings, image, None, blob.size if blob else None)
    updated_at, activated_at = times.get("updated_at"), _activated_at(fields)
    return ImageDraft(image=image, data=blob, updated_at=updated_at, activated_at=activated_at)


def read_changed_record(request: Request, image: Image) -> ImageDraft:
    """Read ``PUT /images/<id>``: fields not sent stay as they are, and so do properties unless a header says else.

    Raises Invalid, Conflict, LimitExceeded, or Forbidden for another id or status.
    """
    body = read_json(request, _BODY, absent={})
    fields: Fields = body["image"]
    properties = fields.pop("properties", {})
    blob, problems = _blob(request, body["blob"])
    check_changeable(image, has_data=blob is not None)
    if body["from_state"] not in (None, image.status):
        raise Conflict(f"Image {image.id} is {image.status}, and not {body['from_state']}.")
    if blob is not None and blob.claim is None:
        problems.append("body.blob.claim: is missing; data for an image that is there needs its claim.")
    status = _changed_status(fields, blob, request, image)
    updated_at = fields.get("updated_at")  # that which the asking server made; clients send older ones back
    times: Fields = {"updated_at": updated_at} if updated_at and _is_now(updated_at) else {}
    problems += immutability_problems(cleared(fields), image, spell)
    problems += format_problems(fields, request.settings, spell, complete=blob is not None, image=image)
    purge = read_purge(request, problems, default=False) and blob is None
    if problems:
        raise Invalid(*problems)
    fields = permitted(cleared(fields), request.identity)
    changed = changed_image(image, fields, properties, spell, purge=purge)
    changed = dataclasses.replace(changed, status=status, **times)
    _check_announced(changed, blob)
    check_limits(request.settings, changed, image, blob.size if blob else None)
    when: Fields = {"updated_at": times.get("updated_at"), "activated_at": _activated_at(fields)}
    return ImageDraft(image=changed, old=image, data=blob, purge=purge, **when)


def _blob(request: Request, found: dict[str, Any] | None) -> tuple[Blob | None, list[str]]:
    """Make the blob of an upload; bytes can lie nowhere but where the upload's claim says."""
    if found is None:
        return None, []
    problems = []
    location = Location(**found["location"]) if found["location"] else None
    blob = Blob(found["size"], found["checksum"], found["sha256"], location, found["claim"])
    if location is None and dataclasses.replace(blob, claim=None) != EMPTY:
        problems.append("body.blob.location: only a blob of no bytes, with their digests, has none.")
    if location is not None and location.key != blob.claim:
        problems.append("body.blob.location.key: must be the key of the upload's claim, body.blob.claim.")
    if location is not None:
        problems += location_problems(request, location.store, location.key, "body.blob.location")
    return blob, problems


def _check_announced(image: Image, blob: Blob | None) -> None:
    announced = {name: getattr(image, name) for name in FACTS}
    wrong = [name for name, value in announced.items() if blob and value and value != getattr(blob, name)]
    if wrong:
        raise DataMismatch(*(f"{spell(name)}: {announced[name]} was announced, but not the data's." for name in wrong))


def _new_status(fields: Fields, blob: Blob | None, request: Request, problems: list[str]) -> str:
    """Return the status of a new image. Nothing is active without its bytes, and only administrators choose."""
    told, status = fields.pop("status", None), Status.QUEUED if blob is None else Status.ACTIVE
    if told in (None, status) or not request.identity.is_admin:
        return status
    if told != Status.KILLED or blob is not None:
        problems.append(f"{spell('status')}: {told!a} cannot be set; an image is active with its blob, else queued.")
    return Status.KILLED


def _changed_status(fields: Fields, blob: Blob | None, request: Request, image: Image) -> str:
    told, status = fields.pop("status", None), image.status if blob is None else Status.ACTIVE
    if told in (None, status):
        return status
    if told != Status.KILLED or image.status != Status.QUEUED or blob is not None or not request.identity.is_admin:
        raise Forbidden(f"{spell('status')} cannot be changed; the image's is {status}.")
    return Status.KILLED


def _new_times(fields: Fields, blob: Blob | None, request: Request) -> Fields:
    """Take the times of a new image: an administrator's as they are, else those that the asking server made."""
    sent = {name: fields[name] for name in ("created_at", "updated_at") if fields.get(name)}
    if request.identity.is_admin:
        return sent
    began = sent.get("created_at")
    took_long = blob is not None and blob.claim is not None and began is not None and began < utcnow()
    return {name: time for name, time in sent.items() if _is_now(time) or (took_long and name == "created_at")}


def _activated_at(fields: Fields) -> datetime | None:
    """Take the time that the asking server tells of its own upload; clients send an older one back."""
    time: datetime | None = fields.get("activated_at")
    return time if time is not None and _is_now(time) else None


def _is_now(time: datetime) -> bool:
    return abs(utcnow() - time) <= CLOCKS
