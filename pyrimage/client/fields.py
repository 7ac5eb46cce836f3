"""Images as headers and as JSON, in the spelling of the guide and in that of Glance."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import fields as fields_of
from datetime import UTC, datetime
from typing import Any, TypedDict, TypeVar

from .errors import BadAnswer
from .records import Image, ImageSummary, Member, SharedImage

PREFIX = "x-image-meta-"
PROPERTY = "x-image-meta-property-"

Record = TypeVar("Record", bound=ImageSummary)

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_|~-]+")  # what a header's name is made of
_NUMBERS = {"size", "min_disk", "min_ram"}
_BOOLEANS = {"is_public", "protected", "deleted"}
_TIMES = {"created_at", "updated_at", "deleted_at"}


class ImageFields(TypedDict, total=False):
    """What can be said of an image. None clears a field.

    size, checksum, sha256: what the bytes must be. store: where they shall lie. location: a URL where they lie already.
    """

    id: str
    name: str | None
    disk_format: str | None
    container_format: str | None
    is_public: bool
    protected: bool
    min_disk: int
    min_ram: int
    owner: str | None
    properties: Mapping[str, str]
    size: int
    checksum: str
    sha256: str
    store: str
    location: str


class Filters(TypedDict, total=False):
    """Which images a list shall have: those that meet all of it.

    is_public: None for public and private ones; a list has public ones only, and those of the caller's project, if
    this is not said. changes_since: deleted ones are listed too.
    """

    name: str
    status: str
    disk_format: str
    container_format: str
    size_min: int
    size_max: int
    min_disk: int
    min_ram: int
    protected: bool
    is_public: bool | None
    properties: Mapping[str, str]
    changes_since: datetime


def render_headers(fields: ImageFields) -> dict[str, str]:
    """Make the headers that say this, with hyphens alone: many proxies drop names with underscores."""
    headers = {}
    for name, value in fields.items():
        if name != "properties":
            headers[PREFIX + name.replace("_", "-")] = _text(name, value)
    for key, value in fields.get("properties", {}).items():
        if not _TOKEN.fullmatch(key):
            raise ValueError(f"The key {key!r} of a property may have letters, digits and !#$%&'*+-.^_|~ only.")
        headers[PROPERTY + key.replace("_", "-")] = _text(key, value)
    return headers


def render_query(filters: Filters) -> dict[str, str]:
    """Make the parameters of a list's query."""
    query: dict[str, str] = {}
    for name, value in filters.items():
        if name == "properties":
            query |= {f"property-{key}": each for key, each in filters["properties"].items()}
        elif name == "changes_since":
            query["changes-since"] = filters["changes_since"].astimezone(UTC).isoformat()
        else:
            query[name] = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return query


def _text(name: str, value: object) -> str:
    text = "" if value is None else str(value)
    if _CONTROL.search(text):
        raise ValueError(f"{name} may have no control characters: {text!r}")
    return text


def image_of_headers(headers: Mapping[str, str], uri: str) -> Image:
    """Read an image from the headers of an answer; ``uri`` is for servers that do not tell any."""
    values: dict[str, Any] = {}
    properties = {}
    for header, value in headers.items():
        name = header.lower()
        if name.startswith(PROPERTY):
            properties[name.removeprefix(PROPERTY)] = value
        elif name.startswith(PREFIX):
            values[name.removeprefix(PREFIX).replace("-", "_")] = value
    return read_record(Image, {**values, "properties": properties}, uri)


def image_of_answer(value: Any, headers: Mapping[str, str], uri: str) -> Image:
    """Read an image from the JSON of an answer; below ``/v1`` what Glance does not know is in the headers alone."""
    told = {name: headers[PREFIX + name] for name in ("sha256", "location") if PREFIX + name in headers}
    if not isinstance(value, dict) or not isinstance(value.get("image"), dict):
        raise BadAnswer("The answer describes no image.")
    return read_record(Image, told | value["image"], uri)


def read_record(kind: type[Record], values: Mapping[str, Any], uri: str) -> Record:
    """Make a record of JSON, or of headers. uri: of the images, for servers that do not tell any."""
    try:
        known = {field.name: _read(field.name, values[field.name]) for field in fields_of(kind) if field.name in values}
        told = {name: value for name, value in known.items() if value is not None}
        return kind(**{"uri": f"{uri}/{values['id']}", **told})
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise BadAnswer(f"What the answer says of an image makes no sense: {error!r}") from error


def _read(name: str, value: Any) -> Any:
    if name == "properties":
        return {str(key): "" if each is None else str(each) for key, each in value.items()}
    if value is None or value == "":
        return None
    if name in _NUMBERS:
        return int(value)
    if name in _BOOLEANS:
        return value if isinstance(value, bool) else value.lower() == "true"
    if name in _TIMES:
        time = datetime.fromisoformat(value)
        return time if time.tzinfo else time.replace(tzinfo=UTC)
    return str(value)


def read_members(value: Any) -> list[Member]:
    """Read the members of an image."""
    return [Member(each["member_id"], each["can_share"]) for each in read_list(value, "members")]


def read_shared_images(value: Any) -> list[SharedImage]:
    """Read the images that are shared with a project."""
    return [SharedImage(each["image_id"], each["can_share"]) for each in read_list(value, "shared_images")]


def render_members(members: Iterable[Member | str]) -> dict[str, Any]:
    """Make the JSON that replaces the members; who is only named keeps what it may."""
    return {
        "memberships": [
            {"member_id": each} if isinstance(each, str) else {"member_id": each.member_id, "can_share": each.can_share}
            for each in members
        ]
    }


def read_list(value: Any, key: str) -> list[dict[str, Any]]:
    """Return the list below a key of the answer's JSON."""
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise BadAnswer(f"The answer has no list of {key}.")
    return found
