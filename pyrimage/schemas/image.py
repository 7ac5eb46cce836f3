"""The request headers of an image: their schema, and the record that a valid set of them makes.

Source: v1, "Fields as request headers", "Formats" and "PUT /images/{id}".
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import colander
from pyramid.request import Request

from ..errors import Conflict, Forbidden, Invalid, LimitExceeded
from ..records import EMPTY, Blob, Image, Status, new_image_id, utcnow
from ..security import Identity
from ..settings import Settings
from .dialect import Dialect, shown_location
from .digests import demand_digests
from .fields import MAX_BYTES, Digits, Flag, Hex, Ignored, ImageId, NoSource, Owner, Text, Timestamp, Word
from .headers import PURGE_PROPERTIES, Headers, content_length, has_body, header_name, read_headers

DISK_FORMATS = ("aki", "ari", "ami", "raw", "iso", "vhd", "vhdx", "vdi", "vmdk", "qcow2", "ploop")
CONTAINER_FORMATS = ("aki", "ari", "ami", "bare", "ovf", "ova", "docker")
AMAZON_FORMATS = frozenset({"aki", "ari", "ami"})
OCTETS = "application/octet-stream"

MAX_INT = 2**31 - 1

Fields = dict[str, Any]
Spelling = Callable[[str], str]  # how the client spells a field: as a header, or in JSON

# What an empty header means for a field that has no null.
_UNSET = {"size": 0, "min_disk": 0, "min_ram": 0, "is_public": False, "protected": False}
DIGESTS = ("checksum", "sha256")
_ADMIN_ONLY = ("owner", "created_at", "updated_at")
_PLAIN = ("name", "disk_format", "container_format", "is_public", "protected", "min_disk", "min_ram")


def _header(type_: colander.SchemaType) -> colander.SchemaNode:
    return colander.SchemaNode(type_, missing=colander.drop)


class ImageSchema(colander.MappingSchema):
    """Header names without their prefix, in underscores.

    In:  {"name": "f17", "size": "1048576", "is_public": "True"}   every value is text
    Out: {"name": "f17", "size": 1048576, "is_public": True}       size in bytes; absent ones stay absent
    """

    id = _header(ImageId())
    name = _header(Text())
    disk_format = _header(Word(DISK_FORMATS, "Invalid disk format"))
    container_format = _header(Word(CONTAINER_FORMATS, "Invalid container format"))
    size = _header(Digits())
    checksum = _header(Hex(32))
    sha256 = _header(Hex(64))
    is_public = _header(Flag())
    protected = _header(Flag())
    min_disk = _header(Digits(MAX_INT))
    min_ram = _header(Digits(MAX_INT))
    owner = _header(Owner())
    store = _header(Text())
    location = _header(NoSource())
    created_at = _header(Timestamp())
    updated_at = _header(Timestamp())
    status = _header(Text())
    copy_from = _header(Ignored())
    deleted_at = _header(Ignored())
    deleted = _header(Ignored())
    uri = _header(Ignored())
    virtual_size = _header(Ignored())
    last_error = _header(Ignored())


_SCHEMA = ImageSchema()
_KNOWN = frozenset(node.name for node in _SCHEMA.children)


@dataclass(frozen=True, slots=True)
class Submission:
    """What a valid POST or PUT asks for.

    image: the record as it shall be, its data aside. store: scheme of the store for the data.
    is_new: nobody has the id yet. has_body: data comes. is_empty: none comes, and the image is complete without.
    size: bytes that must come, None if nobody said. updated_at: an administrator's, for images copied from elsewhere.
    activated_at: when the data was complete, if that was at another server.
    purge: no property stays but those that were sent. announced_by: headers, not ours, that named the data's digests.
    """

    image: Image
    store: str
    is_new: bool
    has_body: bool
    is_empty: bool = False
    size: int | None = None
    updated_at: datetime | None = None
    activated_at: datetime | None = None
    purge: bool = False
    announced_by: Mapping[str, str] = field(default_factory=dict)

    def completed(self, blob: Blob | None) -> Image:
        """Return the record to store: active with the blob's facts, or as it is without one."""
        if blob is None:
            return self.image
        return dataclasses.replace(
            self.image,
            status=Status.ACTIVE,
            size=blob.size,
            checksum=blob.checksum,
            sha256=blob.sha256,
            location=blob.location,
            last_error=None,
            updated_at=self.updated_at or utcnow(),
            activated_at=self.activated_at or utcnow(),
        )


def read_new_image(request: Request, dialect: Dialect) -> Submission:
    """Read ``POST /images``. Raises Invalid with everything that is wrong with the headers, or LimitExceeded."""
    headers = read_headers(request)
    fields = _validated(headers, request)
    problems = headers.problems
    body = has_body(request)
    if headers.fields.get("size") == "":
        del fields["size"]  # announces nothing, where 0 announces an empty image
    is_empty = not body and fields.get("size") == 0
    size = _expected_size(request, fields.get("size"), problems) if body else None
    announced_by = demand_digests(request, fields, problems, None, has_data=body)
    if dialect.name_required and not headers.fields.get("name"):
        problems.append("x-image-meta-name is required.")
    if is_empty and any(fields.get(name) not in (None, getattr(EMPTY, name)) for name in DIGESTS):
        problems.append("x-image-meta-checksum or -sha256 is not the digest of an empty image.")
    check_formats(fields, problems, request.settings, header_name, complete=body or is_empty)
    _check_content_type(request, dialect, problems)
    if problems:
        raise Invalid(*problems)
    fields = permitted(fields, request.identity)
    image = new_record(fields, headers.properties, request.identity)
    check_limits(request.settings, image, None, size)
    store = fields.get("store") or request.settings.default_store
    updated_at = fields.get("updated_at")
    return Submission(image, store, True, body, is_empty, size, updated_at, announced_by=announced_by)


def read_change(request: Request, dialect: Dialect, image: Image) -> Submission:
    """Read ``PUT /images/<id>``: fields not sent stay as they are.

    Clients send back whole images: what only the server sets is ignored, what may never change must be as it is.
    Raises Invalid, LimitExceeded, or Forbidden for another id or status.
    """
    headers = read_headers(request)
    if image.status != Status.QUEUED:
        _check_location(headers, shown_location(request, image))
    fields = _validated(headers, request)
    problems = headers.problems
    body = has_body(request)
    size = _expected_size(request, fields.get("size") or image.size or None, problems) if body else None
    announced_by = demand_digests(request, fields, problems, image, has_data=body)
    check_immutable(fields, problems, image, header_name)
    check_formats(fields, problems, request.settings, header_name, complete=body, image=image)
    _check_content_type(request, dialect, problems)
    purge = read_purge(request, problems, default=True) and not body
    if problems:
        raise Invalid(*problems)
    fields = permitted(fields, request.identity)
    changed = changed_record(image, fields, headers.properties, header_name, purge=purge)
    check_limits(request.settings, changed, image, size)
    store = fields.get("store") or request.settings.default_store
    return Submission(changed, store, False, has_body=body, size=size, purge=purge, announced_by=announced_by)


def _validated(headers: Headers, request: Request) -> dict[str, Any]:
    """Run the schema; what it finds, and names it does not know, is added to the headers' problems.

    Colander's own ``unknown="raise"`` would report the unknown names and hide every other error.
    """
    unknown = [name for name in headers.fields if name not in _KNOWN]
    headers.problems += [f"{header_name(name)!a} is not a known header." for name in unknown]
    try:
        fields: dict[str, Any] = _SCHEMA.deserialize(headers.fields)
    except colander.Invalid as invalid:
        wrong = invalid.asdict()
        headers.problems += [f"{header_name(name)}: {why}." for name, why in wrong.items()]
        fields = _SCHEMA.deserialize({name: text for name, text in headers.fields.items() if name not in wrong})
    store = fields.get("store")
    if store is not None and store not in request.stores:
        headers.problems.append(f"x-image-meta-store: {store!a} is not a store here; try {', '.join(request.stores)}.")
    return cleared(fields)


def cleared(fields: Fields) -> Fields:
    """Give fields that were cleared and have no null what they are without."""
    return {name: _UNSET.get(name) if value is None else value for name, value in fields.items()}


def permitted(fields: Fields, caller: Identity) -> Fields:
    """Return the fields without those that only an administrator's word counts for."""
    return fields if caller.is_admin else {name: value for name, value in fields.items() if name not in _ADMIN_ONLY}


def _expected_size(request: Request, declared: int | None, problems: list[str]) -> int | None:
    length = content_length(request)
    if length is not None and length > MAX_BYTES:
        problems.append(f"Content-Length is more than {MAX_BYTES}.")
    if declared is not None and length is not None and declared != length:
        problems.append(f"x-image-meta-size: {declared} bytes are announced, but Content-Length is {length}.")
    return length if declared is None else declared


def new_record(fields: Fields, properties: Mapping[str, str], caller: Identity) -> Image:
    """Make the record of a new image, of fields that are valid and permitted; it is the caller's unless they say so."""
    now = utcnow()
    known: Fields = {"owner": caller.project}
    known |= {name: fields[name] for name in (*_PLAIN, *DIGESTS, "owner") if name in fields}
    known |= {name: fields.get(name) or now for name in ("created_at", "updated_at")}
    return Image(id=fields.get("id") or new_image_id(), size=fields.get("size") or 0, properties=properties, **known)


def changed_record(
    image: Image, fields: Fields, properties: Mapping[str, str], spell: Spelling, *, purge: bool
) -> Image:
    """Return what valid and permitted fields make of an image. Raises Forbidden for another id or status."""
    for name in ("id", "status"):
        if name in fields and fields[name] != getattr(image, name):
            raise Forbidden(f"{spell(name)} cannot be changed; the image's is {getattr(image, name)}.")
    return dataclasses.replace(
        image,
        properties=properties if purge else {**image.properties, **properties},
        updated_at=utcnow(),
        **{name: fields[name] for name in (*_PLAIN, "size", *DIGESTS, "owner") if name in fields},
    )


def check_changeable(image: Image, *, has_data: bool) -> None:
    """Refuse to change a deleted image, and data for one that has some. Raises Forbidden, Conflict."""
    if image.deleted:
        raise Forbidden(f"Image {image.id} is deleted.")
    if has_data and image.status != Status.QUEUED:
        raise Conflict(f"Image {image.id} is {image.status}; only a queued image takes data.")


def check_immutable(fields: Fields, problems: list[str], image: Image, spell: Spelling) -> None:
    """Refuse other facts about data than those of the data that is there."""
    if image.status == Status.QUEUED:
        return
    problems += [
        f"{spell(name)} is {fields[name]}, but the image's is {getattr(image, name)}, and data is immutable."
        for name in ("size", *DIGESTS)
        if name in fields and fields[name] != getattr(image, name)
    ]


def _check_location(headers: Headers, shown: str | None) -> None:
    """Take an echo of what was shown out of the headers: it is no source. "None" is Python's null."""
    sent = headers.fields.pop("location", None)
    if sent is not None and sent not in (("", "None") if shown is None else (shown,)):
        headers.problems.append("x-image-meta-location cannot be changed; only a queued image takes data.")


def check_limits(settings: Settings, new: Image, old: Image | None, coming: int | None) -> None:
    """Refuse what goes beyond a limit by its headers alone. What ``old`` has, if a limit was lowered, it may keep.

    coming: bytes of the body, None if unknown or none.
    """
    size = coming or (new.size if old is None or new.size != old.size else 0)
    cap = settings.image_size_cap
    if cap is not None and size > cap:
        raise LimitExceeded(f"The image would have {size} bytes; {cap} are accepted (pyrimage.image_size_cap).")
    check_properties(settings, new.properties, lambda: {} if old is None else old.properties)


def check_properties(settings: Settings, new: Mapping[str, str], old: Callable[[], Mapping[str, str]]) -> None:
    """Refuse more properties, or more bytes of them, than one image may have. What it has already it may keep.

    old: gives those that it has; asked only if the new ones are too many. Raises LimitExceeded.
    """
    quota, room = settings.image_property_quota, settings.image_property_bytes
    if quota is not None and len(new) > quota and new.keys() - old().keys():
        raise LimitExceeded(
            f"The image would have {len(new)} properties; {quota} are accepted (pyrimage.image_property_quota)."
        )
    if room is not None and (size := _bytes_of(new)) > room and size > _bytes_of(old()):
        raise LimitExceeded(
            f"The image's properties would have {size} bytes; {room} are accepted (pyrimage.image_property_bytes)."
        )


def _bytes_of(properties: Mapping[str, str]) -> int:
    return len("".join([*properties, *properties.values()]).encode())


def check_formats(
    fields: Fields,
    problems: list[str],
    settings: Settings,
    spell: Spelling,
    *,
    complete: bool,
    image: Image | None = None,
) -> None:
    """Apply the amazon rule: either of its formats makes both equal; a missing one is filled in."""
    names = ("disk_format", "container_format")
    disk, container = (fields[name] if name in fields else getattr(image, name, None) for name in names)
    if {disk, container} & AMAZON_FORMATS and disk != container:
        if disk and container:
            problems.append(
                f"{spell(names[0])}, {spell(names[1])}: "
                f"aki, ari and ami go with themselves only, not {disk} with {container}."
            )
        else:
            fields.update(dict.fromkeys(names, disk or container))
    elif complete and settings.require_formats and not (disk and container):
        required = f"{spell(names[0])} and {spell(names[1])} are required with data"
        problems.append(f"{required} (pyrimage.require_formats).")


def _check_content_type(request: Request, dialect: Dialect, problems: list[str]) -> None:
    if not has_body(request):
        return
    sent = request.environ.get("CONTENT_TYPE", "")
    kind = sent.partition(";")[0].strip().lower()  # parameters mean nothing to bytes (RFC 9110, 8.3.1)
    if kind != OCTETS and (sent or dialect.content_type_required):
        problems.append(f"Content-Type: {sent!a} is not accepted with data; send {OCTETS}.")


def read_purge(request: Request, problems: list[str], *, default: bool) -> bool:
    """Say whether properties that are not sent go; ``default`` is what no header means."""
    text = request.headers.get(PURGE_PROPERTIES, str(default))
    if text.lower() not in Flag.WORDS:
        problems.append(f"{PURGE_PROPERTIES}: must be true or false.")
    return Flag.WORDS.get(text.lower(), default)
