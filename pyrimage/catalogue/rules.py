"""What may become of an image: new, changed, with data, within its limits. Functions of plain values, for every face.

Fields travel as ``{"name": "f17", "size": 5}``, of the values that the face's schema made. Problems are sentences for
the client; ``spell`` says what the client calls a field. Source: docs/v1.md, "Fields as request headers", "Formats"
and "PUT /images/{id}".
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..errors import Conflict, Forbidden, LimitExceeded, NotFound
from ..settings import Settings
from .records import FACTS, IMAGE_FIELDS, Blob, Identity, Image, Location, SetBy, Status, new_image_id, utcnow

Fields = dict[str, Any]
Spelling = Callable[[str], str]  # of a field's name: as a header, or in JSON

FORMATS = ("disk_format", "container_format")
AMAZON_FORMATS = frozenset({"aki", "ari", "ami"})

_ADMINS = frozenset(name for name, field in IMAGE_FIELDS.items() if field.set_by in (SetBy.ADMIN, SetBy.ADMIN_AT_FIRST))
_CHANGEABLE = tuple(name for name, field in IMAGE_FIELDS.items() if field.set_by in (SetBy.CLIENT, SetBy.ADMIN))
_TIMES = tuple(name for name, field in IMAGE_FIELDS.items() if field.set_by is SetBy.ADMIN_AT_FIRST)


@dataclass(frozen=True, slots=True)
class Body:
    """Data that comes with the request, for the store of this name.

    size: bytes that must come, None if nobody said. spell: says what the client called a digest that it announced.
    """

    store: str
    size: int | None
    spell: Spelling


@dataclass(frozen=True, slots=True)
class Registered:
    """Data that lies where the client says. size: bytes, None if nobody said: then the location's store is asked."""

    location: Location
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageDraft:
    """What a valid request asks for.

    image: the record as it shall be, its data aside. old: the image as it was found, None for a new one.
    data: None, a body that is still to come, a registered location, or a blob that is there: ``EMPTY``, or what another
    server has received or found.
    updated_at: an administrator's word, for images copied from elsewhere. activated_at: when that upload was complete.
    purge: no property stays but those that were sent.
    """

    image: Image
    old: Image | None = None
    data: Body | Registered | Blob | None = None
    updated_at: datetime | None = None
    activated_at: datetime | None = None
    purge: bool = False

    @property
    def blob(self) -> Blob | None:
        """The data that is there already."""
        return self.data if isinstance(self.data, Blob) else None

    @property
    def is_registered(self) -> bool:
        """Whether the data lies where the client says."""
        location = self.data.location if isinstance(self.data, Registered | Blob) else None
        return location is not None and not location.owned

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


def cleared(fields: Fields) -> Fields:
    """Give fields that were cleared the value that they have when nobody sets them."""
    unset = {name: IMAGE_FIELDS[name].unset for name, value in fields.items() if value is None and name in IMAGE_FIELDS}
    return {**fields, **unset}


def permitted(fields: Fields, caller: Identity) -> Fields:
    """Return the fields without those that only an administrator's word counts for."""
    return fields if caller.is_admin else {name: value for name, value in fields.items() if name not in _ADMINS}


def new_image(fields: Fields, properties: Mapping[str, str], caller: Identity) -> Image:
    """Make the record of a new image, of fields that are valid and permitted; it is the caller's unless they say so."""
    now = utcnow()
    known: Fields = {"owner": caller.project, **{name: fields[name] for name in _CHANGEABLE if name in fields}}
    known |= {name: fields.get(name) or now for name in _TIMES}
    return Image(id=fields.get("id") or new_image_id(), properties=properties, **known)


def changed_image(
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
        **{name: fields[name] for name in _CHANGEABLE if name in fields},
    )


def check_changeable(image: Image, *, has_data: bool) -> None:
    """Refuse to change a deleted image, and data for one that has some. Raises Forbidden, Conflict."""
    if image.deleted:
        raise Forbidden(f"Image {image.id} is deleted.")
    if has_data and image.status != Status.QUEUED:
        raise Conflict(f"Image {image.id} is {image.status}; only a queued image takes data.")


def changed_meanwhile(image: Image, *, has_data: bool) -> Conflict:
    """Make the error for a change of an image that is no longer what the change was checked against."""
    return Conflict(
        f"Image {image.id} is no longer {image.status}, or has another owner or other formats"
        f"{', or another size or digest is announced' if has_data else ''}."
    )


def protected_meanwhile(image: Image) -> Conflict:
    """Make the error for a deletion of an image that was protected or given away since that was checked."""
    return Conflict(f"Image {image.id} was protected or given away meanwhile.")


def not_there(image_id: str) -> NotFound:
    """Make the error for an image that is gone."""
    return NotFound(f"Image {image_id} is not there any more.")


def check_publicity(settings: Settings, caller: Identity, draft: ImageDraft, spell: Spelling) -> None:
    """Refuse to make an image public for whom the settings do not allow it. Raises Forbidden."""
    was_public = draft.old is not None and draft.old.is_public
    may_publish = caller.is_admin or settings.publicize_image == "owner"
    if draft.image.is_public and not was_public and not may_publish:
        raise Forbidden(f"{spell('is_public')}: only administrators may publish here (pyrimage.publicize_image).")


def check_registration(settings: Settings, caller: Identity, draft: ImageDraft, spell: Spelling) -> None:
    """Refuse a location from whom the settings do not allow to register one. Raises Forbidden."""
    may_register = caller.is_admin or settings.set_image_location == "owner"
    if draft.is_registered and not may_register:
        only = "only administrators may register locations here (pyrimage.set_image_location)"
        raise Forbidden(f"{spell('location')}: {only}.")


def immutability_problems(fields: Fields, image: Image, spell: Spelling) -> list[str]:
    """Say which fields tell other facts about data than those of the data that is there."""
    if image.status == Status.QUEUED:
        return []
    return [
        f"{spell(name)} is {fields[name]}, but the image's is {getattr(image, name)}, and data is immutable."
        for name in FACTS
        if name in fields and fields[name] != getattr(image, name)
    ]


def format_problems(
    fields: Fields, settings: Settings, spell: Spelling, *, complete: bool, image: Image | None = None
) -> list[str]:
    """Apply the rule of Amazon's formats: either makes both equal, and a missing one is filled in into ``fields``."""
    disk, container = (fields[name] if name in fields else getattr(image, name, None) for name in FORMATS)
    if {disk, container} & AMAZON_FORMATS and disk != container:
        if disk and container:
            names = f"{spell(FORMATS[0])}, {spell(FORMATS[1])}"
            return [f"{names}: aki, ari and ami go with themselves only, not {disk} with {container}."]
        fields.update(dict.fromkeys(FORMATS, disk or container))
    elif complete and settings.require_formats and not (disk and container):
        required = f"{spell(FORMATS[0])} and {spell(FORMATS[1])} are required with data"
        return [f"{required} (pyrimage.require_formats)."]
    return []


def check_limits(settings: Settings, new: Image, old: Image | None, coming: int | None) -> None:
    """Refuse what goes beyond a limit by its metadata alone. What ``old`` has, if a limit was lowered, it may keep.

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
