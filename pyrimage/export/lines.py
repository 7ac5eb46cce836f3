"""The lines of an export: an image as JSON, and back. What is read may come from anybody, and is judged as such."""

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeGuard

from .. import __version__
from ..catalogue.records import (
    IMAGE_FIELDS,
    LOCATION_LENGTH,
    Digest,
    Field,
    Flag,
    Image,
    Location,
    LongText,
    Status,
    Text,
    Time,
    Whole,
    Word,
    json_value,
    utcnow,
)
from ..errors import Invalid
from ..settings import STORE_NAME
from ..stores import FOREIGN
from ..web.fields import CONTROL, IMAGE_ID_FORM, KEY_LENGTH, NOT_KEY, is_member_id

FORMAT, VERSION = "pyrimage-export", 1
MAX_LINE = 16 * 2**20  # bytes: some hundred times what an image has that its limits allow

_DIGEST = re.compile("[0-9a-f]{64}")
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")  # what no database takes
_STATUSES = frozenset(word for name, word in vars(Status).items() if name.isupper())


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One image of an export.

    image: its location, if it has one, is that of bytes which the old installation owned, or could not read either.
    members: whom it is shared with, and whether they may share it further.
    url: where bytes lie that a client had registered. blob: sha256 of the bytes that the export has; None without.
    """

    image: Image
    members: Mapping[str, bool] = dataclasses.field(default_factory=dict)
    url: str | None = None
    blob: str | None = None


def render_header() -> bytes:
    """Make the first line."""
    header = {"format": FORMAT, "version": VERSION, "release": __version__, "began_at": json_value(utcnow())}
    return _line(header)


def render_end(images: int) -> bytes:
    """Make the last line, without which the file was cut short."""
    return _line({"images": images})


def render_entry(entry: Entry) -> bytes:
    """Make the line of an image. Raises Invalid if it is longer than a reader takes."""
    image, location = entry.image, entry.image.location
    shown = {name: json_value(getattr(image, name)) for name in IMAGE_FIELDS}
    shown |= {"properties": dict(image.properties), "members": dict(entry.members)}
    if location is None:
        shown["location"] = None if entry.url is None else {"url": entry.url}
    elif location.owned:
        shown["location"] = {"store": location.store, "key": location.key}
    else:
        shown["location"] = {"url": location.key, "elsewhere": True}
    line = _line({**shown, "blob": entry.blob})
    if len(line) > MAX_LINE:
        raise Invalid(f"It has more than the {MAX_LINE} bytes of metadata that a line can hold.")
    return line


def parse_header(line: bytes) -> None:
    """Read the first line. Raises Invalid unless it is that of an export which this release knows."""
    header = _object(line)
    if header.get("format") != FORMAT:
        raise Invalid("It is no export of pyrimage.")
    if header.get("version") != VERSION:
        raise Invalid(f"It is of version {header.get('version')!a}; this release reads version {VERSION}.")


def parse_end(line: bytes) -> int | None:
    """Return how many images there are, of the last line; None for another one."""
    try:
        found = _object(line)
    except Invalid:
        return None
    count = found.get("images")
    return count if found.keys() == {"images"} and type(count) is int else None


def parse_entry(line: bytes) -> Entry:
    """Read the line of an image. Raises Invalid for what an image cannot be."""
    found = _object(line)
    others = {"properties", "members", "location", "blob"}
    if unknown := found.keys() - IMAGE_FIELDS.keys() - others:
        raise Invalid(f"{min(unknown)[:KEY_LENGTH]!a} is not known to this release.")
    known = {name: _value(name, field, found) for name, field in IMAGE_FIELDS.items()}
    location, url = _location(found.get("location"))
    image = Image(**known, properties=_properties(found.get("properties", {})), location=location)
    blob = found.get("blob")
    if blob is not None and not _is(_DIGEST, blob):
        raise Invalid("blob: must be 64 hexadecimal digits in lower case, or null.")
    entry = Entry(image=image, members=_members(found.get("members", {})), url=url, blob=blob)
    _check(entry)
    return entry


def id_in(line: bytes) -> str | None:
    """Return the id of an image's line that may be wrong otherwise, None where it has none that could be one."""
    try:
        name = _object(line).get("id")
    except Invalid:
        return None
    return name if isinstance(name, str) and IMAGE_ID_FORM.fullmatch(name) else None


def _check(entry: Entry) -> None:
    """Refuse what does not go together."""
    image = entry.image
    has_bytes = image.location is not None or entry.url is not None
    if image.deleted and image.deleted_at is None:
        raise Invalid("deleted_at: is missing; the image is deleted.")
    if image.status == Status.DELETED and not image.deleted:
        raise Invalid("deleted: must be true; the image's status says so.")
    if image.status == Status.ACTIVE and has_bytes != (image.size > 0):
        raise Invalid("location: an active image has one unless its size is 0.")
    if has_bytes and (image.deleted or image.status == Status.QUEUED or not image.size):
        raise Invalid(f"location: an image that is {image.status}, of {image.size} bytes, has none.")
    is_owned = image.location is not None and image.location.owned
    if entry.blob is not None and (not is_owned or image.sha256 not in (None, entry.blob)):
        raise Invalid("blob: must be the sha256 of an image whose bytes are the service's own.")


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _object(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:  # the second from a hundred thousand brackets
        raise Invalid("The line is not JSON.") from error
    if not isinstance(found, dict):
        raise Invalid("The line is no JSON object.")
    return found


def _is(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_line(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and not CONTROL.search(value) and not _NO_TEXT.search(value)


def _value(name: str, field: Field, found: Mapping[str, Any]) -> Any:
    """Return the value of a field; that of an image which nobody set it for, if the line does not have it."""
    if name not in found and not field.is_required:
        return field.unset
    value = found.get(name)
    if value is None and not field.is_required and field.unset is None:
        return None
    if name == "id" and not _is(IMAGE_ID_FORM, value):
        raise Invalid(f"id: {_cut(value)} is not an image id.")
    if name == "status" and value not in _STATUSES:
        raise Invalid(f"status: {_cut(value)} is none; there are {', '.join(sorted(_STATUSES))}.")
    return _typed(name, field, value)


def _typed(name: str, field: Field, value: Any) -> Any:
    match field.kind:
        case Flag() if isinstance(value, bool):
            return value
        case Whole(maximum=maximum) if type(value) is int and 0 <= value <= maximum:  # True is an int too
            return value
        case Digest(digits=digits) if _is(re.compile(f"[0-9a-f]{{{digits}}}"), value):
            return value
        case Word(words=words):
            if value in ("", *words):
                return value or None
        case Text(length=length) if _is_line(value) and len(value) <= length:
            return value or None
        case LongText() if isinstance(value, str) and not _NO_TEXT.search(value):
            return value
        case Time() if (time := _time(value)) is not None:
            return time
    raise Invalid(f"{name}: cannot be {_cut(value)}.")


def _time(value: object) -> datetime | None:
    try:
        time = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return time if time is not None and time.tzinfo is None and time.year >= 1900 else None


def _location(value: object) -> tuple[Location | None, str | None]:
    """Return where owned bytes lay, or those that no store read; or the URL of registered ones."""
    match value:
        case None:
            return None, None
        case {"url": str() as url, "elsewhere": True, **others} if not others and len(url) <= LOCATION_LENGTH:
            if url and _is_line(url):
                return Location(FOREIGN, url, owned=False), None
        case {"url": str() as url, **others} if not others and len(url) <= LOCATION_LENGTH * 4:
            return None, url
        case {"store": str() as store, "key": str() as key, **others} if not others:
            if STORE_NAME.fullmatch(store) and re.fullmatch(f"[!-~]{{1,{LOCATION_LENGTH}}}", key):
                return Location(store, key), None
    raise Invalid('location: must be null, {"url": "..."} or {"store": "...", "key": "..."}.')


def _properties(value: object) -> Mapping[str, str]:
    if not isinstance(value, dict):
        raise Invalid("properties: must be an object of texts.")
    for key, text in value.items():
        if not 1 <= len(key) <= KEY_LENGTH or NOT_KEY.search(key):
            raise Invalid(f"properties: {_cut(key)}: a key is 1 to {KEY_LENGTH} of a-z, 0-9 and _.")
        if not _is_line(text):
            raise Invalid(f"properties: {key}: cannot be {_cut(text)}.")
    return value


def _members(value: object) -> Mapping[str, bool]:
    if not isinstance(value, dict):
        raise Invalid("members: must be an object of projects, each true if it may share the image, else false.")
    for name, can_share in value.items():
        if not is_member_id(name) or not isinstance(can_share, bool):
            raise Invalid(f"members: {_cut(name)}: cannot be {_cut(can_share)}.")
    return value


def _cut(value: object) -> str:
    """Show what somebody wrote, in a line of the terminal."""
    text = ascii(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
